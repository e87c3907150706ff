"""Where a config of MMDetection 2.28.2 and its twin of 3.3.0 really differ, each read in both files.

Keys are the pair; values say at which place of `Experiment.to_dict()` the releases differ, and give both values.
"""

from typing import Any, NamedTuple

from .stock import MISSING

Places = dict[str, tuple[Any, Any]]


class Difference(NamedTuple):
    """A pair's differing places, and why they differ."""

    reason: str
    places: Places


# common/ms-poly_3x_coco-instance.py validates two images at a time, common/mstrain-poly_3x_coco_instance.py one.
VAL_BATCH = Difference(
    "3.3.0 validates with batch_size=2", {"data.val.batch_size": (1, 2), "data.test.batch_size": (1, 2)}
)
# fp16 = dict(loss_scale=512.) became AmpOptimWrapper without loss_scale.
FIXED_SCALE: Places = {"optimizer.loss_scale": (512.0, "dynamic")}
AMP = Difference("2.28.2 fixes the loss scale, 3.3.0 leaves it dynamic", FIXED_SCALE)
# _base_/datasets/voc0712.py of 3.3.0 ignores small boxes while training; 2.28.2 gives no min_size.
VOC_BOXES = Difference(
    "3.3.0 sets bbox_min_size=32",
    {f"data.train.dataset.dataset.datasets.{i}.bbox_min_size": (MISSING, 32) for i in (0, 1)},
)
VOC_JSON = [
    (f"data.{split}.ann_file", name) for split, name in (
        ("train.dataset.dataset", "voc0712_trainval.json"), ("val.dataset", "voc07_test.json"),
        ("test.dataset", "voc07_test.json"),
    )
] + [(f"{split}_metrics.0.ann_file", "voc07_test.json") for split in ("val", "test")]  # fmt: skip

DIFFERENCES: dict[tuple[str, str], Difference] = {
    ("faster_rcnn/faster_rcnn_r101_caffe_fpn_mstrain_3x_coco.py",
     "faster_rcnn/faster-rcnn_r101-caffe_fpn_ms-3x_coco.py"):
        Difference("3.3.0 forgot caffe's mean and std and keeps those of the pytorch style", {
            "model.preprocess.mean.0": (103.53, 123.675),
            "model.preprocess.mean.2": (123.675, 103.53),
            "model.preprocess.std": (MISSING, [58.395, 57.12, 57.375]),
            "model.preprocess.to_rgb": (MISSING, True),
        }),
    ("faster_rcnn/faster_rcnn_r50_caffe_dc5_mstrain_3x_coco.py", "faster_rcnn/faster-rcnn_r50-caffe-dc5_ms-3x_coco.py"):
        Difference("3.3.0 changes milestones but not the end of MultiStepLR", {"schedule.1.end": (36, 12)}),
    ("faster_rcnn/faster_rcnn_r50_caffe_fpn_mstrain_2x_coco.py", "faster_rcnn/faster-rcnn_r50-caffe_fpn_ms-2x_coco.py"):
        Difference("3.3.0 changes milestones but not the end of MultiStepLR", {"schedule.1.end": (24, 12)}),
    ("faster_rcnn/faster_rcnn_r50_fpn_fp16_1x_coco.py", "faster_rcnn/faster-rcnn_r50_fpn_amp-1x_coco.py"): AMP,
    ("mask_rcnn/mask_rcnn_r50_fpn_fp16_1x_coco.py", "mask_rcnn/mask-rcnn_r50_fpn_amp-1x_coco.py"): AMP,
    ("retinanet/retinanet_r50_fpn_fp16_1x_coco.py", "retinanet/retinanet_r50_fpn_amp-1x_coco.py"):
        Difference("2.28.2 also clips gradients", {
            **FIXED_SCALE, "optimizer.clip": ({"max_norm": 35, "norm_type": 2}, None),
        }),
    ("mask_rcnn/mask_rcnn_r50_caffe_fpn_mstrain-poly_2x_coco.py",
     "mask_rcnn/mask-rcnn_r50-caffe_fpn_ms-poly-2x_coco.py"):
        Difference("2.28.2 steps at epochs 16 and 23, 3.3.0 at 16 and 22", {"schedule.1.milestones.1": (23, 22)}),
    ("mask_rcnn/mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco.py",
     "mask_rcnn/mask-rcnn_r50-caffe_fpn_ms-poly-3x_coco.py"):
        Difference("3.3.0 trains 36 epochs but ends MultiStepLR at 24", {"schedule.1.end": (36, 24)}),
    ("retinanet/retinanet_r18_fpn_1x8_1x_coco.py", "retinanet/retinanet_r18_fpn_1xb8-1x_coco.py"):
        Difference("3.3.0 has the line auto_scale_lr in a comment", {"runtime.base_batch_size": (8, 16)}),
    ("mask_rcnn/mask_rcnn_r101_caffe_fpn_mstrain-poly_3x_coco.py",
     "mask_rcnn/mask-rcnn_r101-caffe_fpn_ms-poly-3x_coco.py"): VAL_BATCH,
    ("mask_rcnn/mask_rcnn_r101_fpn_mstrain-poly_3x_coco.py",
     "mask_rcnn/mask-rcnn_r101_fpn_ms-poly-3x_coco.py"): VAL_BATCH,
    ("mask_rcnn/mask_rcnn_r50_fpn_mstrain-poly_3x_coco.py",
     "mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py"): VAL_BATCH,
    ("mask_rcnn/mask_rcnn_x101_32x4d_fpn_mstrain-poly_3x_coco.py",
     "mask_rcnn/mask-rcnn_x101-32x4d_fpn_ms-poly-3x_coco.py"): VAL_BATCH,
    ("mask_rcnn/mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco.py",
     "mask_rcnn/mask-rcnn_x101-32x8d_fpn_ms-poly-3x_coco.py"): VAL_BATCH,
    ("mask_rcnn/mask_rcnn_x101_64x4d_fpn_mstrain-poly_3x_coco.py",
     "mask_rcnn/mask-rcnn_x101-64x4d_fpn_ms-poly_3x_coco.py"): VAL_BATCH,
}  # fmt: skip

# The VOC configs have no published weights: paired by name.
VOC: dict[tuple[str, str], Difference | None] = {
    ("pascal_voc/faster_rcnn_r50_fpn_1x_voc0712.py", "pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py"): VOC_BOXES,
    ("pascal_voc/retinanet_r50_fpn_1x_voc0712.py", "pascal_voc/retinanet_r50_fpn_1x_voc0712.py"): VOC_BOXES,
    ("pascal_voc/faster_rcnn_r50_caffe_c4_mstrain_18k_voc0712.py",
     "pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py"): None,
    ("pascal_voc/faster_rcnn_r50_fpn_1x_voc0712_cocofmt.py", "pascal_voc/faster-rcnn_r50_fpn_1x_voc0712-cocofmt.py"):
        Difference("3.3.0 looks for the JSON files inside of VOCdevkit", {
            place: (f"data/{name}", f"data/VOCdevkit/annotations/{name}") for place, name in VOC_JSON
        }),
}  # fmt: skip
