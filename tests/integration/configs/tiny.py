"""A detector so small that an epoch of 16 pictures takes half a second; its set is in $SHAPES_ROOT."""

_base_ = [
    "../../../configs/_base_/models/faster-rcnn_thin-r18_fpn.py",
    "../../../configs/_base_/datasets/shapes.py",
    "../../../configs/_base_/default_runtime.py",
]
data_root = "{{$SHAPES_ROOT:data/shapes}}/"
scale = (64, 64)

model = dict(
    backbone=dict(
        base_channels=8, stem_channels=8, num_stages=3, out_indices=(0, 1, 2), strides=(1, 2, 2), dilations=(1, 1, 1)
    ),
    neck=dict(in_channels=[8, 16, 32], out_channels=16, num_outs=4),
    rpn_head=dict(in_channels=16, feat_channels=16, anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16, featmap_strides=[4, 8, 16]),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=3),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=100, max_per_img=64),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=32), rcnn=dict(score_thr=0.001, max_per_img=20)),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    batch_size=4,
    dataset=dict(data_root=data_root, filter_cfg=dict(filter_empty_gt=True, min_size=0), pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/instances_val.json")
test_evaluator = val_evaluator

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.01, weight_decay=0.0001),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4)]
default_hooks = dict(logger=dict(interval=2))
