"""Copy-Paste: objects of one image laid over another."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fastdet.data.masks import mask_areas, mask_boxes, select_masks
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample

from .objects import join_objects, select_objects


@TRANSFORMS.register()
class CopyPaste:
    """Lays some objects of another image of the same size over this one.

    What they cover is taken out of the masks below, whose boxes are made anew. A covered object stays if its box
    hardly changed or enough of its mask is left.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", section
    3; numbers as in MMDetection 3.x `CopyPaste`.

    Args:
        max_num_pasted: less than this many objects are pasted.
        bbox_occluded_thr: an object stays if no side of its box moves by more pixels.
        mask_occluded_thr: an object stays if more pixels of its mask are left.
        selected: paste a random number of random objects; else all.
        paste_by_box: where there are no masks, boxes stand for them.
    """

    def __init__(
        self,
        max_num_pasted: int = 100,
        bbox_occluded_thr: float = 10,
        mask_occluded_thr: float = 300,
        selected: bool = True,
        paste_by_box: bool = False,
    ) -> None:
        if max_num_pasted < 1:
            raise ValueError(f"max_num_pasted must be at least 1, not {max_num_pasted}")
        self.max_num_pasted = max_num_pasted
        self.bbox_occluded_thr = bbox_occluded_thr
        self.mask_occluded_thr = mask_occluded_thr
        self.selected = selected
        self.paste_by_box = paste_by_box

    def mix(self, sample: Sample, draw: Callable[[], Sample], rng: np.random.Generator) -> Sample:
        """The sample with objects of one that `draw` gives."""
        other = draw()
        count = len(other.boxes)
        keep = np.ones(count, bool)
        if self.selected:
            number = int(rng.integers(min(count + 1, self.max_num_pasted)))
            keep[:] = False
            keep[rng.choice(count, size=number, replace=False)] = True
        return self.paste(sample, select_objects(other, keep))

    def paste(self, sample: Sample, other: Sample) -> Sample:
        """The sample under all objects of the other one.

        Raises:
            ValueError: images of different sizes, or no bitmaps.
        """
        if len(other.boxes) == 0:
            return sample
        if sample.image.shape != other.image.shape:
            raise ValueError(
                f"CopyPaste needs images of one size, not {sample.image.shape[:2]} and {other.image.shape[:2]} (H, W): "
                "crop and pad them in the inner dataset's pipeline"
            )
        below, above = self._bitmaps(sample), self._bitmaps(other)
        covered = above.any(axis=0)
        left = below * ~covered
        boxes = mask_boxes(left)
        unmoved = (np.abs(boxes - sample.boxes) <= self.bbox_occluded_thr).all(axis=1)
        keep = unmoved | (mask_areas(left) > self.mask_occluded_thr)
        kept = replace(select_objects(sample, keep), boxes=boxes[keep], masks=select_masks(left, keep))
        image = np.where(covered[:, :, None], other.image, sample.image)
        return replace(join_objects(kept, [replace(other, masks=above)]), image=image, proposals=None)

    def _bitmaps(self, sample: Sample) -> np.ndarray:
        """[M, H, W] uint8"""
        if isinstance(sample.masks, np.ndarray):
            return sample.masks
        if sample.masks is not None:
            raise ValueError("CopyPaste needs bitmaps: LoadAnnotations(with_mask=True, poly2mask=True)")
        if not self.paste_by_box:
            raise ValueError("CopyPaste needs masks: LoadAnnotations(with_mask=True), or paste_by_box=True")
        bitmaps = np.zeros((len(sample.boxes), *sample.image.shape[:2]), np.uint8)
        for bitmap, (x1, y1, x2, y2) in zip(bitmaps, sample.boxes.astype(int), strict=True):
            bitmap[y1:y2, x1:x2] = 1
        return bitmaps
