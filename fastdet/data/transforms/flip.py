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
    image = cv2.flip(sample.image, FLIP_CODES[direction])
    boxes = flip_boxes(sample.boxes, (height, width), direction)
    masks, semantic, proposals = sample.masks, sample.semantic, sample.proposals
    if masks is not None:
        masks = flip_masks(masks, (height, width), direction)
    if semantic is not None:
        semantic = cv2.flip(semantic, FLIP_CODES[direction])
    if proposals is not None:
        proposals = flip_boxes(proposals, (height, width), direction)
    return replace(
        sample, image=image, boxes=boxes, masks=masks, semantic=semantic, proposals=proposals, flip=direction
    )


def flip_boxes(boxes: np.ndarray, size: tuple[int, int], direction: str) -> np.ndarray:
    """Boxes [M, 4] xyxy of an image of size (H, W) that is mirrored."""
    height, width = size
    flipped = boxes.copy()
    if direction != "vertical":
        flipped[:, [0, 2]] = width - boxes[:, [2, 0]]
    if direction != "horizontal":
        flipped[:, [1, 3]] = height - boxes[:, [3, 1]]
    return flipped


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
