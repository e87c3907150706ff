"""RetinaNet with ResNet-50 and FPN at 1333x800 (Lin et al., 2017).

Data:     COCO 2017 in data/coco
Command:  python -m fastdet.bench export configs/coco/retinanet_r50_fpn_coco.py
"""

_base_ = [
    "../_base_/models/retinanet_r50_fpn.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/default_runtime.py",
]
