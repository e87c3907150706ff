"""SSD's enlarging and cropping."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastdet.data.masks import move_masks
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample

from .crop import cut_window
from .objects import box_centers, clip_boxes, select_objects, translate_boxes

TRIALS = 50
"""Windows tried with one demand, as many as SSD's authors and MMDetection try."""


@TRANSFORMS.register()
class Expand:
    """Lays the image somewhere on a larger canvas of one colour.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector" (ECCV 2016), section 3.6 ("zoom out"); numbers as in
    MMDetection 3.x `Expand`.

    Args:
        mean: colour of the canvas.
        to_rgb: `mean` is in the order RGB.
        ratio_range: (least, greatest) side of the canvas in sides of the image.
        seg_ignore_label: what semantic maps hold on the canvas; None for 255.
        prob: how likely anything happens.
    """

    def __init__(
        self,
        mean: Sequence[float] = (0, 0, 0),
        to_rgb: bool = True,
        ratio_range: Sequence[float] = (1, 4),
        seg_ignore_label: int | None = None,
        prob: float = 0.5,
    ) -> None:
        if len(ratio_range) != 2 or not 1 <= ratio_range[0] <= ratio_range[1]:
            raise ValueError(f"ratio_range must be (least, greatest) ratio of at least 1, not {ratio_range}")
        if len(mean) != 3:
            raise ValueError(f"mean must be three values, not {mean}")
        self.color = tuple(mean)[::-1] if to_rgb else tuple(mean)
        self.ratio_range = ratio_range[0], ratio_range[1]
        self.no_class = 255 if seg_ignore_label is None else seg_ignore_label
        self.prob = prob

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() > self.prob:
            return sample
        height, width = sample.image.shape[:2]
        ratio = rng.uniform(*self.ratio_range)
        left, top = int(rng.uniform(0, width * ratio - width)), int(rng.uniform(0, height * ratio - height))
        return self.place(sample, (int(height * ratio), int(width * ratio)), left, top)

    def place(self, sample: Sample, size: tuple[int, int], left: int, top: int) -> Sample:
        """The sample with its upper left corner at (left, top) of a canvas of size (H, W)."""
        height, width = sample.image.shape[:2]
        image = np.empty((*size, 3), sample.image.dtype)
        image[:] = np.array(self.color).astype(image.dtype)
        image[top : top + height, left : left + width] = sample.image
        masks, semantic, proposals = sample.masks, sample.semantic, sample.proposals
        if masks is not None:
            masks = move_masks(masks, left, top, size)
        if semantic is not None:
            canvas = np.full(size, self.no_class, semantic.dtype)
            canvas[top : top + height, left : left + width] = semantic
            semantic = canvas
        if proposals is not None:
            proposals = translate_boxes(proposals, left, top)
        boxes = translate_boxes(sample.boxes, left, top)
        return replace(sample, image=image, boxes=boxes, masks=masks, semantic=semantic, proposals=proposals)


@TRANSFORMS.register()
class MinIoURandomCrop:
    """Cuts out a random window that overlaps every object by a least IoU, which is drawn too.

    Objects stay whose centre lies in the window. With one of the demands the image stays as it is, with another no
    overlap is asked for. A demand that 50 windows do not meet is drawn anew.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector" (ECCV 2016), section 2.2 (data augmentation); steps as in
    MMDetection 3.x `MinIoURandomCrop`.

    Args:
        min_ious: the least overlaps, each as likely.
        min_crop_size: least side of the window, as a part of the image's.
        bbox_clip_border: clip boxes at the window.
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        bbox_clip_border: bool = True,
    ) -> None:
        if not 0 < min_crop_size <= 1:
            raise ValueError(f"min_crop_size must lie in (0, 1], not {min_crop_size}")
        self.demands = (1.0, *min_ious, 0.0)
        self.min_crop_size = min_crop_size
        self.bbox_clip_border = bbox_clip_border

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.image.shape[:2]
        while True:
            demand = self.demands[int(rng.integers(len(self.demands)))]
            if demand == 1:
                return sample
            for _ in range(TRIALS):
                new_w = rng.uniform(self.min_crop_size * width, width)
                new_h = rng.uniform(self.min_crop_size * height, height)
                if not 0.5 <= new_h / new_w <= 2:
                    continue
                left, top = rng.uniform(0, width - new_w), rng.uniform(0, height - new_h)
                window = int(left), int(top), int(left + new_w), int(top + new_h)
                if window[2] > window[0] and window[3] > window[1]:
                    cut = self.cut(sample, window, demand)
                    if cut is not None:
                        return cut

    def cut(self, sample: Sample, window: tuple[int, int, int, int], demand: float) -> Sample | None:
        """The window (x1, y1, x2, y2) of the sample, or None if it does not meet the demand."""
        x1, y1, x2, y2 = window
        keep = np.ones(len(sample.boxes), bool)
        if len(sample.boxes):
            if window_ious(sample.boxes, window).min() < demand:
                return None
            x, y = box_centers(sample.boxes).T
            keep = (x > x1) & (y > y1) & (x < x2) & (y < y2)
            if not keep.any():
                return None
        kept = cut_window(select_objects(sample, keep), (x1, y1, x2 - x1, y2 - y1))
        return replace(kept, boxes=clip_boxes(kept.boxes, (y2 - y1, x2 - x1))) if self.bbox_clip_border else kept


def window_ious(boxes: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """The IoU of boxes [M, 4] xyxy with one window, float32 [M]."""
    other = np.array(window, np.float32)
    inside = np.minimum(boxes[:, 2:], other[2:]) - np.maximum(boxes[:, :2], other[:2])
    inter = np.clip(inside, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    whole = (other[2:] - other[:2]).prod()
    return inter / np.maximum(areas + whole - inter, 1e-6)
