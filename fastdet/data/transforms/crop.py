"""Cropping."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastdet.data.masks import crop_masks, mask_boxes
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample

from .objects import clip_boxes, select_objects, touch_image, translate_boxes

CROP_TYPES = ("absolute", "absolute_range", "relative", "relative_range")


@TRANSFORMS.register()
class RandomCrop:
    """Cuts a window out of the image at a random place. Source: MMDetection 3.x `RandomCrop`.

    Objects whose box does not touch the window go. If none is left the result is None, and another image is drawn.

    Args:
        crop_size: with "absolute" (width, height) in pixels, at most the image; with "absolute_range" (least,
            greatest) side in pixels; with "relative" parts of (width, height); with "relative_range" the least parts
            of (height, width), in this order as in MMDetection.
        crop_type: absolute, absolute_range, relative or relative_range.
        allow_negative_crop: keep a window without objects.
        recompute_bbox: take the boxes anew from the cropped masks.
        bbox_clip_border: clip boxes at the window.
    """

    def __init__(
        self,
        crop_size: Sequence[float],
        crop_type: str = "absolute",
        allow_negative_crop: bool = False,
        recompute_bbox: bool = False,
        bbox_clip_border: bool = True,
    ) -> None:
        if crop_type not in CROP_TYPES:
            raise ValueError(f"crop_type must be one of {', '.join(CROP_TYPES)}, not {crop_type!r}")
        is_absolute = crop_type.startswith("absolute")
        if len(crop_size) != 2 or min(crop_size) <= 0:
            raise ValueError(f"crop_size must be two positive numbers, not {crop_size}")
        if is_absolute and not all(isinstance(s, int) for s in crop_size):
            raise ValueError(f"crop_size must be in whole pixels for crop_type {crop_type!r}, not {crop_size}")
        if not is_absolute and max(crop_size) > 1:
            raise ValueError(f"crop_size must be at most 1 for crop_type {crop_type!r}, not {crop_size}")
        if crop_type == "absolute_range" and crop_size[0] > crop_size[1]:
            raise ValueError(f"crop_size must be (least, greatest) for crop_type 'absolute_range', not {crop_size}")
        self.crop_size = crop_size[0], crop_size[1]
        self.crop_type = crop_type
        self.allow_negative_crop = allow_negative_crop
        self.recompute_bbox = recompute_bbox
        self.bbox_clip_border = bbox_clip_border

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample | None:
        height, width = sample.image.shape[:2]
        crop_h, crop_w = self._draw_size((height, width), rng)
        y0 = int(rng.integers(max(height - crop_h, 0), endpoint=True))
        x0 = int(rng.integers(max(width - crop_w, 0), endpoint=True))
        cropped = crop_sample(sample, (x0, y0, crop_w, crop_h), clip_boxes_at_border=self.bbox_clip_border)
        if len(cropped.boxes) == 0 and not self.allow_negative_crop:
            return None
        if self.recompute_bbox and cropped.masks is not None:
            cropped = replace(cropped, boxes=mask_boxes(cropped.masks))
        return cropped

    def _draw_size(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
        """(H, W) of the window."""
        first, second = self.crop_size
        height, width = size
        if self.crop_type == "absolute":
            return min(int(second), height), min(int(first), width)
        if self.crop_type == "absolute_range":
            crop_h, crop_w = (
                int(rng.integers(min(side, int(first)), min(side, int(second)), endpoint=True)) for side in size
            )
            return crop_h, crop_w
        if self.crop_type == "relative":
            part_h, part_w = second, first
        else:
            part_h, part_w = (least + rng.random() * (1 - least) for least in (first, second))
        return int(height * part_h + 0.5), int(width * part_w + 0.5)


def crop_sample(sample: Sample, window: tuple[int, int, int, int], *, clip_boxes_at_border: bool = True) -> Sample:
    """The part (x0, y0, width, height) of a sample, with the objects whose box touches it."""
    height, width = sample.image[window[1] : window[1] + window[3], window[0] : window[0] + window[2]].shape[:2]
    boxes = translate_boxes(sample.boxes, -window[0], -window[1])
    if clip_boxes_at_border:
        boxes = clip_boxes(boxes, (height, width))
    keep = touch_image(boxes, (height, width))
    return replace(cut_window(select_objects(sample, keep), window), boxes=boxes[keep])


def cut_window(sample: Sample, window: tuple[int, int, int, int]) -> Sample:
    """The part (x0, y0, width, height) of a sample with all of its objects, whose boxes are not cut off."""
    x0, y0, width, height = window
    image = np.ascontiguousarray(sample.image[y0 : y0 + height, x0 : x0 + width])
    height, width = image.shape[:2]
    masks, semantic, proposals = sample.masks, sample.semantic, sample.proposals
    if masks is not None:
        masks = crop_masks(masks, (x0, y0, width, height))
    if semantic is not None:
        semantic = np.ascontiguousarray(semantic[y0 : y0 + height, x0 : x0 + width])
    if proposals is not None:
        proposals = clip_boxes(translate_boxes(proposals, -x0, -y0), (height, width))
    boxes = translate_boxes(sample.boxes, -x0, -y0)
    return replace(sample, image=image, boxes=boxes, masks=masks, semantic=semantic, proposals=proposals)
