"""Faster R-CNN with ResNet-50 and FPN at 1333x800 (Ren et al., 2015; Lin et al., 2017), with torchvision's test settings.

Data:     COCO 2017 in data/coco
Command:  python -m fastdet.bench export configs/coco/faster-rcnn_r50_fpn_coco.py
"""

_base_ = [
    "../_base_/models/faster-rcnn_thin-r18_fpn.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/default_runtime.py",
]
model = dict(
    backbone=dict(depth=50, base_channels=64, stem_channels=64, frozen_stages=1, norm_eval=True),
    neck=dict(in_channels=[256, 512, 1024, 2048], out_channels=256),
    rpn_head=dict(in_channels=256, feat_channels=256),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=256), bbox_head=dict(in_channels=256, fc_out_channels=1024)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=256)),
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000),
        rcnn=dict(sampler=dict(num=512)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=1000)),
)
