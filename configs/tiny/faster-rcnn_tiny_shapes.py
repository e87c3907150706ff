"""A tiny Faster R-CNN on the generated set of shapes: the detector of the quick start.

Data:     python -m fastdet.data shapes data/shapes
Command:  python -m fastdet.train configs/tiny/faster-rcnn_tiny_shapes.py --work-dir work_dirs/quickstart
"""

_base_ = [
    "../_base_/models/faster-rcnn_thin-r18_fpn.py",
    "../_base_/datasets/shapes.py",
    "../_base_/default_runtime.py",
]
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32, 64])),
    roi_head=dict(bbox_head=dict(num_classes=3)),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12, val_interval=3)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.002, weight_decay=0.0001),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
