"""YOLOX-Nano (Ge et al., 2021) at 416x416: 0.9 M parameters, for COCO-format data of 80 classes.

Data:     COCO in data/coco, or a folder of its layout (train2017, val2017, annotations) in the variable COCO_ROOT
Command:  python -m fastdet.test configs/yolox/yolox_nano_coco.py CHECKPOINT
The network, its losses and its test settings are those of MMDetection's yolox_nano_8xb8-300e_coco.
"""

_base_ = ["../_base_/default_runtime.py"]
dataset_type = "CocoDataset"
data_root = "{{$COCO_ROOT:data/coco}}/"
scale = (416, 416)
norm_cfg = dict(type="BN", momentum=0.03, eps=0.001)
act_cfg = dict(type="Swish")

model = dict(
    type="YOLOX",
    data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32),
    backbone=dict(
        type="CSPDarknet",
        deepen_factor=0.33,
        widen_factor=0.25,
        out_indices=(2, 3, 4),
        use_depthwise=True,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    neck=dict(
        type="YOLOXPAFPN",
        in_channels=[64, 128, 256],
        out_channels=64,
        num_csp_blocks=1,
        use_depthwise=True,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    bbox_head=dict(
        type="YOLOXHead",
        num_classes=80,
        in_channels=64,
        feat_channels=64,
        use_depthwise=True,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    train_cfg=dict(assigner=dict(type="SimOTAAssigner", center_radius=2.5)),
    test_cfg=dict(score_thr=0.01, nms=dict(type="nms", iou_threshold=0.65)),
)
pad = dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0)))
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Resize", scale=scale, keep_ratio=True),
    pad,
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    pad,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        filter_cfg=dict(filter_empty_gt=False, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", ann_file=data_root + "annotations/instances_val2017.json", metric="bbox")
test_evaluator = val_evaluator

max_epochs = 300
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(type="CosineAnnealingLR", begin=0, end=max_epochs, T_max=max_epochs, eta_min=0.0005, by_epoch=True),
]
