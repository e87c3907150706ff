"""Resizing to a given, a drawn or a chosen scale."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import cv2
import numpy as np

from fastdet.data.masks import resize_masks
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample

from .objects import clip_boxes

INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def fit_size(size: tuple[int, int], scale: tuple[int, int], *, half_up: bool = True) -> tuple[int, int]:
    """The largest size of the same shape within a scale.

    Args:
        size: (H, W) of the image.
        scale: two bounds in any order: the longer side gets at most the larger, the shorter at most the smaller one.
        half_up: round each side half up, as mmcv's `rescale_size` does; else down.

    Returns:
        (H, W).
    """
    factor = min(max(scale) / max(size), min(scale) / min(size))
    rounding = 0.5 if half_up else 0.0
    return int(size[0] * factor + rounding), int(size[1] * factor + rounding)


def resize_sample(
    sample: Sample, new_size: tuple[int, int], *, clip_object_border: bool = True, interpolation: str = "bilinear"
) -> Sample:
    """The sample resized to (H, W): the image as asked for, boxes and proposals by new over old side, each side for
    itself, bitmaps and semantic maps by nearest neighbour."""
    height, width = sample.image.shape[:2]
    new_h, new_w = max(new_size[0], 1), max(new_size[1], 1)
    image = cv2.resize(sample.image, (new_w, new_h), interpolation=INTERPOLATIONS[interpolation])
    scale_x, scale_y = new_w / width, new_h / height
    boxes = sample.boxes * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    if clip_object_border:
        boxes = clip_boxes(boxes, (new_h, new_w))
    masks = sample.masks
    if masks is not None:
        masks = resize_masks(masks, (height, width), (new_h, new_w))
    semantic, proposals = sample.semantic, sample.proposals
    if semantic is not None:
        semantic = cv2.resize(semantic, (new_w, new_h), interpolation=cv2.INTER_NEAREST)
    if proposals is not None:
        proposals = proposals * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        proposals = clip_boxes(proposals, (new_h, new_w)) if clip_object_border else proposals
    scale = sample.scale[0] * scale_x, sample.scale[1] * scale_y
    return replace(sample, image=image, boxes=boxes, masks=masks, semantic=semantic, proposals=proposals, scale=scale)


@TRANSFORMS.register()
class Resize:
    """Resizes image, boxes and masks.

    Source: mmcv `Resize` with MMDetection's handling of boxes and masks; equal to it number for number (bitmaps by
    nearest neighbour). `Sample.scale` accumulates over several resizes; MMDetection's `scale_factor` is the last one.

    Args:
        scale: (width, height) without keep_ratio, else two bounds, see `fit_size`; one number stands for both.
        scale_factor: factor, or (factor of width, factor of height), instead of `scale`.
        keep_ratio: keep the shape of the image.
        clip_object_border: clip boxes at the image border.
        backend: OpenCV is the only one.
        interpolation: of the image: nearest, bilinear, bicubic, area or lanczos.
    """

    half_up: ClassVar[bool] = True

    def __init__(
        self,
        scale: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: str = "cv2",
        interpolation: str = "bilinear",
    ) -> None:
        if (scale is None) == (scale_factor is None):
            raise ValueError(f"Resize needs scale or scale_factor, one of them: scale={scale}, {scale_factor=}")
        if backend != "cv2":
            raise ValueError(f"backend must be 'cv2', not {backend!r}")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, not {interpolation!r}")
        self.scale = None if scale is None else _pair(scale, "scale")
        self.factor = None if scale_factor is None else _factors(scale_factor)
        self.keep_ratio = keep_ratio
        self.clip_object_border = clip_object_border
        self.interpolation = interpolation

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.to_scale(sample, self._scale(sample.image.shape[:2]))

    def new_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (H, W), at least (1, 1), that an image of (H, W) gets."""
        height, width = self._fitted(size, self._scale(size))
        return max(height, 1), max(width, 1)

    def to_scale(self, sample: Sample, scale: tuple[int, int]) -> Sample:
        """The sample resized to (width, height), or within these bounds with keep_ratio."""
        new_size = self._fitted(sample.image.shape[:2], scale)
        return resize_sample(
            sample, new_size, clip_object_border=self.clip_object_border, interpolation=self.interpolation
        )

    def _scale(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height)"""
        if self.factor is not None:
            return int(size[1] * self.factor[0] + 0.5), int(size[0] * self.factor[1] + 0.5)
        assert self.scale is not None
        return self.scale

    def _fitted(self, size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
        return fit_size(size, scale, half_up=self.half_up) if self.keep_ratio else (scale[1], scale[0])


@TRANSFORMS.register()
class FixScaleResize(Resize):
    """Resize that rounds sides down with keep_ratio, as YOLOX's own code does. Source: MMDetection 3.x."""

    half_up: ClassVar[bool] = False


@TRANSFORMS.register()
class RandomResize:
    """Resizes to a scale drawn from a range. Source: mmcv `RandomResize`.

    Args:
        scale: with `ratio_range` one (width, height); else two of them, between which each side is drawn.
        ratio_range: (least, greatest) factor of the scale.
        resize_type: Resize is the only one.
        keep_ratio, clip_object_border, backend, interpolation: see Resize.
    """

    def __init__(
        self,
        scale: Sequence[int | Sequence[int]],
        ratio_range: Sequence[float] | None = None,
        resize_type: str = "Resize",
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: str = "cv2",
        interpolation: str = "bilinear",
    ) -> None:
        _only_resize(resize_type)
        scales = _scales(scale)
        if len(scales) == 1 and (ratio_range is None or len(ratio_range) != 2 or ratio_range[0] > ratio_range[1]):
            raise ValueError(f"one scale needs ratio_range=(least, greatest), not {ratio_range}")
        first, second = scales[0], scales[-1]
        self.low = min(first[0], second[0]), min(first[1], second[1])
        self.high = max(first[0], second[0]), max(first[1], second[1])
        self.ratio_range = ratio_range if len(scales) == 1 else None
        self.resize = Resize(self.low, None, keep_ratio, clip_object_border, backend, interpolation)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if self.ratio_range is not None:
            low, high = self.ratio_range
            ratio = rng.random() * (high - low) + low
            scale = int(self.low[0] * ratio), int(self.low[1] * ratio)
        else:
            width = int(rng.integers(self.low[0], self.high[0], endpoint=True))
            scale = width, int(rng.integers(self.low[1], self.high[1], endpoint=True))
        return self.resize.to_scale(sample, scale)


@TRANSFORMS.register()
class RandomChoiceResize:
    """Resizes to one of several scales, each as likely. Source: mmcv `RandomChoiceResize`.

    Args:
        scales: (width, height) pairs, or numbers that stand for both.
        resize_type: Resize is the only one.
        keep_ratio, clip_object_border, backend, interpolation: see Resize.
    """

    def __init__(
        self,
        scales: Sequence[int | Sequence[int]],
        resize_type: str = "Resize",
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: str = "cv2",
        interpolation: str = "bilinear",
    ) -> None:
        _only_resize(resize_type)
        if not scales:
            raise ValueError("scales must not be empty")
        self.scales = [_pair(s, "scales") for s in scales]
        self.resize = Resize(self.scales[0], None, keep_ratio, clip_object_border, backend, interpolation)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.resize.to_scale(sample, self.scales[int(rng.integers(len(self.scales)))])


def _pair(scale: int | Sequence[int], name: str) -> tuple[int, int]:
    pair = (scale, scale) if isinstance(scale, int) else tuple(scale)
    if len(pair) != 2 or not all(isinstance(s, int) and s > 0 for s in pair):
        raise ValueError(f"{name} must be (width, height) in whole pixels, not {scale!r}")
    return pair[0], pair[1]


def _scales(scale: Sequence[int | Sequence[int]]) -> list[tuple[int, int]]:
    """One pair, or two of them."""
    numbers = [s for s in scale if isinstance(s, int)]
    if len(numbers) == len(scale):
        return [_pair(numbers, "scale")]
    if len(scale) != 2 or numbers:
        raise ValueError(f"scale must be one (width, height) or two of them, not {scale}")
    return [_pair(s, "scale") for s in scale]


def _factors(factor: float | Sequence[float]) -> tuple[float, float]:
    pair = (factor, factor) if isinstance(factor, int | float) else tuple(factor)
    if len(pair) != 2 or not all(f > 0 for f in pair):
        raise ValueError(f"scale_factor must be one or two positive numbers, not {factor!r}")
    return float(pair[0]), float(pair[1])


def _only_resize(resize_type: str) -> None:
    if resize_type != "Resize":
        raise ValueError(f"resize_type must be 'Resize', not {resize_type!r}")
