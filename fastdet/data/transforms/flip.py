"""Mirroring."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from fastdet.data.masks import FLIP_CODES, flip_masks
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample


def flip_sample(sample: Sample, direction: str) -> Sample:
    """The sample mirrored: horizontal (left to right), vertical, or diagonal (both); x becomes width - x."""
    height, width = sample.image.shape[:2]
    image, boxes = cv2.flip(sample.image, FLIP_CODES[direction]), sample.boxes.copy()
    if direction != "vertical":
        boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
    if direction != "horizontal":
        boxes[:, [1, 3]] = height - sample.boxes[:, [3, 1]]
    masks = sample.masks
    if masks is not None:
        masks = flip_masks(masks, (height, width), direction)
    return replace(sample, image=image, boxes=boxes, masks=masks, flip=direction)


@TRANSFORMS.register()
class RandomFlip:
    """Mirrors the sample with some probability. Source: mmcv and MMDetection `RandomFlip`.

    Args:
        prob: one probability, shared evenly by the directions, or one for each direction (sum at most 1).
        direction: horizontal, vertical, diagonal, or several of them.
    """

    def __init__(self, prob: float | Sequence[float], direction: str | Sequence[str] = "horizontal") -> None:
        self.directions = (direction,) if isinstance(direction, str) else tuple(direction)
        for name in self.directions:
            if name not in FLIP_CODES:
                raise ValueError(f"direction must be {', '.join(FLIP_CODES)} or several of them, not {name!r}")
        if isinstance(prob, int | float):
            probs = [prob / len(self.directions)] * len(self.directions)
        else:
            probs = list(prob)
        if len(probs) != len(self.directions):
            raise ValueError(f"{len(probs)} values of prob for {len(self.directions)} directions")
        if min(probs) < 0 or sum(probs) > 1 + 1e-9:
            raise ValueError(f"prob must lie in [0, 1], its sum too, not {prob}")
        self.bounds = np.cumsum(probs)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        chosen = int(np.searchsorted(self.bounds, rng.random(), side="right"))
        if chosen == len(self.directions):
            return replace(sample, flip=None)
        return flip_sample(sample, self.directions[chosen])
