"""Faster R-CNN from scratch on BCCD (blood cells, 292 training pictures), at 320x240.

Data:     the BCCD dataset (VOC layout) in data/bccd/BCCD, or its folder in the variable BCCD_ROOT
Command:  python -m fastdet.train configs/bccd/faster-rcnn_thin-r18_fpn_bccd.py
Trains on trainval, tests on test.
"""

_base_ = ["../_base_/models/faster-rcnn_thin-r18_fpn.py", "../_base_/default_runtime.py"]
dataset_type = "VOCDataset"
data_root = "{{$BCCD_ROOT:data/bccd/BCCD}}/"
metainfo = dict(classes=("RBC", "WBC", "Platelets"))
scale = (320, 240)

# The smallest objects (platelets) are about 20 pixels at this size: stride 8 is fine enough, and four times cheaper.
model = dict(
    backbone=dict(base_channels=24, stem_channels=24, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[48, 96, 192], num_outs=4),
    rpn_head=dict(anchor_generator=dict(scales=[3], strides=[8, 16, 32, 64])),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16, 32]), bbox_head=dict(num_classes=3)),
    train_cfg=dict(rcnn=dict(sampler=dict(pos_fraction=0.5))),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=scale, ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(320, 240), allow_negative_crop=True),
    dict(type="RandomFlip", prob=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"]),
    dict(type="PhotoMetricDistortion"),
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
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="ImageSets/Main/trainval.txt",
        data_prefix=dict(sub_data_root=""),
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="ImageSets/Main/test.txt",
        data_prefix=dict(sub_data_root=""),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator

max_epochs = 24
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=12)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.004, weight_decay=0.05),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type="CosineAnnealingLR", begin=0, end=max_epochs, T_max=max_epochs, by_epoch=True, convert_to_iter_based=True
    ),
]
