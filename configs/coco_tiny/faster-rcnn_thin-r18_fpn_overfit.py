"""Faster R-CNN overfitted on 80 COCO pictures: shows that the whole chain learns; the score is on the training set.

Data:     a COCO-style set in data/coco_tiny (annotations/, train2017/), or its folder in the variable COCO_TINY_ROOT
Command:  python -m fastdet.train configs/coco_tiny/faster-rcnn_thin-r18_fpn_overfit.py
"""

_base_ = ["../_base_/models/faster-rcnn_thin-r18_fpn.py", "../_base_/default_runtime.py"]
dataset_type = "CocoDataset"
data_root = "{{$COCO_TINY_ROOT:data/coco_tiny}}/"
scale = (512, 384)

# A pyramid from stride 8 on; two anchors of each shape there (16 and 32 pixels) for the small objects.
model = dict(
    backbone=dict(base_channels=32, stem_channels=32, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[64, 128, 256], num_outs=4),
    rpn_head=dict(anchor_generator=dict(scales=[2, 4], strides=[8, 16, 32, 64])),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16, 32], finest_scale=56)),
    train_cfg=dict(rcnn=dict(sampler=dict(pos_fraction=0.5))),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", ann_file=data_root + "annotations/instances_train2017.json", metric="bbox")
test_evaluator = val_evaluator

max_epochs = 110
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=110)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.003, weight_decay=0.0001),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type="CosineAnnealingLR", begin=0, end=max_epochs, T_max=max_epochs, by_epoch=True, convert_to_iter_based=True
    ),
]
default_hooks = dict(checkpoint=dict(interval=10))
