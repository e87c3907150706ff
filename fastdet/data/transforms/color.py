"""Changes of pixel values that move nothing."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample


@TRANSFORMS.register()
class Normalize:
    """Subtracts the mean and divides by the standard deviation; the image becomes float32. Source: mmcv `imnormalize`.

    Detectors normalise on the device; this part is for pipelines in which something follows the normalising.

    Args:
        mean, std: one value a channel, in the order after the conversion.
        to_rgb: turn BGR into RGB first.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], to_rgb: bool = True) -> None:
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std need three values, std positive ones: {mean=}, {std=}")
        self.mean = np.array(mean, np.float32).astype(np.float64).reshape(1, 3)
        self.inverse_std = 1 / np.array(std, np.float32).astype(np.float64).reshape(1, 3)
        self.to_rgb = to_rgb

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        image: np.ndarray = sample.image.astype(np.float32)
        if self.to_rgb:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        # OpenCV computes with doubles and rounds once to float32, which NumPy would do only at twice the memory.
        image = cv2.multiply(cv2.subtract(image, self.mean), self.inverse_std)
        return replace(sample, image=image)


@TRANSFORMS.register()
class PhotoMetricDistortion:
    """Random brightness, contrast, saturation, hue and channel order; the image becomes float32, not clipped.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector" (ECCV 2016), section 2.2 (data augmentation), after
    Howard 2013; steps, order and ranges as in MMDetection. Each step is applied with probability 1/2; contrast comes
    before or after the steps in HSV.

    Args:
        brightness_delta: largest shift of all pixels.
        contrast_range: factors of all pixels.
        saturation_range: factors of the saturation.
        hue_delta: largest shift of the hue, in degrees.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: Sequence[float] = (0.5, 1.5),
        saturation_range: Sequence[float] = (0.5, 1.5),
        hue_delta: float = 18,
    ) -> None:
        for name, bounds in (("contrast_range", contrast_range), ("saturation_range", saturation_range)):
            if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1]:
                raise ValueError(f"{name} must be (least, greatest) factor, not {bounds}")
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range[0], contrast_range[1]
        self.saturation_range = saturation_range[0], saturation_range[1]
        self.hue_delta = hue_delta

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        contrast_first, brightness, contrast, saturation, hue, swap = (bool(v) for v in rng.integers(2, size=6))
        shift = rng.uniform(-self.brightness_delta, self.brightness_delta)
        contrast_factor = rng.uniform(*self.contrast_range)
        saturation_factor = rng.uniform(*self.saturation_range)
        hue_shift = rng.uniform(-self.hue_delta, self.hue_delta)
        order = rng.permutation(3)

        image: np.ndarray = sample.image.astype(np.float32)
        if brightness:
            image = image + shift
        if contrast and contrast_first:
            image = image * contrast_factor
        image = _distort_hsv(image, saturation_factor if saturation else None, hue_shift if hue else None)
        if contrast and not contrast_first:
            image = image * contrast_factor
        if swap:
            image = np.ascontiguousarray(image[..., order])
        return replace(sample, image=image)


def _distort_hsv(image: np.ndarray, saturation: float | None, hue: float | None) -> np.ndarray:
    """Scales the saturation (kept <= 1) and shifts the hue (kept in [0, 360]) of a float32 BGR image.

    The way through HSV is taken even if neither changes: it is not the identity for the negative values that a shift
    of brightness leaves, and MMDetection takes it always.
    """
    hsv: np.ndarray = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if saturation is not None:
        hsv[..., 1] *= saturation
        if saturation > 1:
            np.clip(hsv[..., 1], 0, 1, out=hsv[..., 1])
    if hue is not None:
        shifted = hsv[..., 0] + hue
        shifted[shifted > 360] -= 360
        shifted[shifted < 0] += 360
        hsv[..., 0] = shifted
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


@TRANSFORMS.register()
class YOLOXHSVRandomAug:
    """Shifts hue, saturation and value of all pixels, each with probability 1/2.

    Source: Ge et al., YOLOX; numbers as in MMDetection 3.x `YOLOXHSVRandomAug`, on OpenCV's 8-bit HSV (hue in half
    degrees).

    Args:
        hue_delta, saturation_delta, value_delta: largest shifts; a drawn one is cut off to a whole number.
    """

    def __init__(self, hue_delta: float = 5, saturation_delta: float = 30, value_delta: float = 30) -> None:
        self.deltas = hue_delta, saturation_delta, value_delta

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        gains = rng.uniform(-1, 1, 3) * self.deltas * rng.integers(2, size=3)
        return replace(sample, image=shift_hsv(sample.image, gains.astype(np.int16)))


def shift_hsv(image: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """A BGR image [H, W, 3] uint8 with int16 gains [3] added to its HSV: the hue goes round, the others are cut off."""
    hsv: np.ndarray = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16) + gains
    hsv[..., 0] %= 180
    np.clip(hsv[..., 1:], 0, 255, out=hsv[..., 1:])
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)
