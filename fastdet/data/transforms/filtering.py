"""Dropping of objects that have become too small to teach anything."""

from collections.abc import Sequence

import numpy as np

from fastdet.data.masks import mask_areas
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample

from .objects import select_objects


@TRANSFORMS.register()
class FilterAnnotations:
    """Drops objects by the size of box or mask. Source: MMDetection 3.x `FilterAnnotations`.

    Args:
        min_gt_bbox_wh: width and height of a box must be greater than these, in pixels.
        min_gt_mask_area: set pixels of a mask must be at least this many.
        by_box: test boxes.
        by_mask: test masks.
        keep_empty: give None, so that another image is drawn, when every object goes (the name is MMDetection's, and
            means the opposite of what it says); an image without objects from the start passes.
    """

    def __init__(
        self,
        min_gt_bbox_wh: Sequence[float] = (1, 1),
        min_gt_mask_area: float = 1,
        by_box: bool = True,
        by_mask: bool = False,
        keep_empty: bool = True,
    ) -> None:
        if not (by_box or by_mask):
            raise ValueError("FilterAnnotations needs by_box or by_mask")
        self.min_wh = np.array(min_gt_bbox_wh, np.float32)
        if self.min_wh.shape != (2,):
            raise ValueError(f"min_gt_bbox_wh must be (width, height), not {min_gt_bbox_wh}")
        self.min_mask_area = min_gt_mask_area
        self.by_box = by_box
        self.by_mask = by_mask
        self.keep_empty = keep_empty

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample | None:
        if len(sample.boxes) == 0:
            return sample
        keep = np.ones(len(sample.boxes), bool)
        if self.by_box:
            keep &= (sample.boxes[:, 2:] - sample.boxes[:, :2] > self.min_wh).all(axis=1)
        if self.by_mask:
            if sample.masks is None:
                raise ValueError("FilterAnnotations(by_mask=True) needs LoadAnnotations(with_mask=True) before it")
            keep &= mask_areas(sample.masks) >= self.min_mask_area
        if self.keep_empty and not keep.any():
            return None
        return select_objects(sample, keep)
