"""A tiny Faster R-CNN on the generated set of shapes: the detector of the quick start.

Data:     python -m fastdet.data shapes data/shapes
Command:  python -m fastdet.train configs/tiny/faster-rcnn_tiny_shapes.py --work-dir work_dirs/quickstart
"""

_base_ = [
    "../_base_/models/faster-rcnn_thin-r18_fpn.py",
    "../_base_/datasets/shapes.py",
    "../_base_/default_runtime.py",
]
# Three stages and 32 channels are enough for shapes of 20 to 70 pixels; RoIs of 56 pixels pool from stride 8.
model = dict(
    backbone=dict(num_stages=3, out_indices=(0, 1, 2), strides=(1, 2, 2), dilations=(1, 1, 1)),
    neck=dict(in_channels=[16, 32, 64], out_channels=32, num_outs=4),
    rpn_head=dict(in_channels=32, feat_channels=32, anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32, featmap_strides=[4, 8, 16], finest_scale=28),
        bbox_head=dict(in_channels=32, num_classes=3),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64, pos_fraction=0.5)), rpn_proposal=dict(nms_pre=256, max_per_img=128)),
    test_cfg=dict(rpn=dict(nms_pre=256, max_per_img=128)),
)
max_epochs = 24
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=6)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.004, weight_decay=0.0001),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type="CosineAnnealingLR", begin=0, end=max_epochs, T_max=max_epochs, by_epoch=True, convert_to_iter_based=True
    ),
]
