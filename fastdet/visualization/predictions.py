"""Detections of one image as JSON, in the form of MMDetection's DetInferencer."""

from typing import Any

from fastdet.structures import Instances
from fastdet.structures.packed import encode_masks


def result_to_json(instances: Instances) -> dict[str, Any]:
    """`labels`, `scores`, `bboxes` (xyxy in file pixels) and, with masks, `masks` as COCO RLE: all plain values."""
    shown = instances.cpu()
    values: dict[str, Any] = {
        "labels": shown.labels.tolist(),
        "scores": shown.scores.tolist(),
        "bboxes": shown.bboxes.tolist(),
    }
    if shown.masks is not None:
        values["masks"] = encode_masks(shown.masks.numpy())
    return values
