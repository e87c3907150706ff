"""A thin RetinaNet on the generated set of shapes."""

_base_ = [
    "../../../configs/_base_/models/retinanet_r50_fpn.py",
    "../../../configs/_base_/datasets/shapes.py",
    "../../../configs/_base_/default_runtime.py",
]
data_root = "{{$SHAPES_ROOT:data/shapes}}/"
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = test_dataloader
test_evaluator = dict(ann_file=data_root + "annotations/instances_val.json")
val_evaluator = test_evaluator
model = dict(
    backbone=dict(depth=18, base_channels=16, stem_channels=16, frozen_stages=-1),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    bbox_head=dict(num_classes=3, in_channels=32, stacked_convs=1, feat_channels=32),
    test_cfg=dict(score_thr=0.0, max_per_img=50),
)
