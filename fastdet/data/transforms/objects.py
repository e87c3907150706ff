"""The objects of a sample as a whole: chosen, moved, cut off, joined. What transforms share.

Letters: M objects.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastdet.data.masks import Masks, select_masks
from fastdet.structures import Sample


def select_objects(sample: Sample, keep: np.ndarray) -> Sample:
    """The sample with the objects where the bool array [M] is True."""
    if keep.all():
        return sample
    segments = sample.segments
    if segments is not None:
        segments = tuple(s for s, kept in zip(segments, keep, strict=True) if kept)
    return replace(
        sample, boxes=sample.boxes[keep], labels=sample.labels[keep], ignore=sample.ignore[keep],
        masks=None if sample.masks is None else select_masks(sample.masks, keep), segments=segments,
    )  # fmt: skip


def translate_boxes(boxes: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Boxes [M, 4] xyxy moved by (dx, dy) pixels."""
    return boxes + np.array([dx, dy, dx, dy], np.float32)


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes [M, 4] xyxy cut off at the borders of an image of size (H, W)."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def touch_image(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which boxes [M, 4] have a part inside an image of size (H, W), bool [M]."""
    height, width = size
    return (boxes[:, 0] < width) & (boxes[:, 1] < height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


def box_centers(boxes: np.ndarray) -> np.ndarray:
    """The centres (x, y) of boxes [M, 4], [M, 2]."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def join_objects(sample: Sample, others: Sequence[Sample]) -> Sample:
    """The sample with the objects of others, which are in its pixels, behind its own.

    Masks stay if every sample with objects has them in one form, bitmaps of one size or polygons. Outlines in file
    pixels and semantic maps, which belong to one file, go.
    """
    parts = (sample, *others)
    masks: Masks | None = None
    found = [part.masks for part in parts if part.masks is not None]
    if len(found) == len(parts):
        if all(isinstance(m, np.ndarray) for m in found):
            masks = np.concatenate(found)
        else:
            masks = [list(polygons) for part in found for polygons in part]
    return replace(
        sample,
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        ignore=np.concatenate([part.ignore for part in parts]),
        masks=masks, segments=None, semantic_path=None, semantic=None,
    )  # fmt: skip
