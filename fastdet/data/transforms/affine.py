"""Rotating, scaling, shearing and shifting in one map."""

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample

from .objects import clip_boxes, select_objects, touch_image


def affine_matrix(
    rotate_degree: float, scale: float, shear_degrees: tuple[float, float], shift: tuple[float, float]
) -> np.ndarray:
    """The map that scales, then rotates, then shears, then shifts points (x, y, 1), float32 [3, 3]."""
    angle = math.radians(rotate_degree)
    shear_x, shear_y = (math.tan(math.radians(degree)) for degree in shear_degrees)
    scaling = np.array([[scale, 0, 0], [0, scale, 0], [0, 0, 1]], np.float32)
    rotation = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]], np.float32
    )
    shearing = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]], np.float32)
    shifting = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]], np.float32)
    return shifting @ shearing @ rotation @ scaling


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The boxes around the mapped corners of boxes [M, 4] xyxy."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    ones = np.ones((*corners.shape[:2], 1), np.float32)
    mapped = np.concatenate([corners, ones], axis=2) @ matrix.T
    points = mapped[..., :2] / mapped[..., 2:]
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1).astype(np.float32)


@TRANSFORMS.register()
class RandomAffine:
    """Rotates, scales, shears and shifts the image by chance; for boxes alone.

    Source: Ge et al., YOLOX (after YOLOv5); numbers as in MMDetection 3.x `RandomAffine`.

    Args:
        max_rotate_degree: the angle is drawn from [-this, this].
        max_translate_ratio: the shift, in sides of the output, is drawn from [-this, this] for each side.
        scaling_ratio_range: (least, greatest) factor.
        max_shear_degree: the angles of shear are drawn from [-this, this].
        border: (width, height) that the output has more at each side; negative after a Mosaic, whose middle it shows.
        border_val: of pixels that no image covers.
        bbox_clip_border: clip boxes at the output.
    """

    def __init__(
        self,
        max_rotate_degree: float = 10.0,
        max_translate_ratio: float = 0.1,
        scaling_ratio_range: Sequence[float] = (0.5, 1.5),
        max_shear_degree: float = 2.0,
        border: Sequence[int] = (0, 0),
        border_val: Sequence[float] = (114, 114, 114),
        bbox_clip_border: bool = True,
    ) -> None:
        if not 0 <= max_translate_ratio <= 1:
            raise ValueError(f"max_translate_ratio must lie in [0, 1], not {max_translate_ratio}")
        if not 0 < scaling_ratio_range[0] <= scaling_ratio_range[1]:
            raise ValueError(f"scaling_ratio_range must be (least, greatest) factor, not {scaling_ratio_range}")
        self.max_rotate_degree = max_rotate_degree
        self.max_translate_ratio = max_translate_ratio
        self.scaling_ratio_range = scaling_ratio_range[0], scaling_ratio_range[1]
        self.max_shear_degree = max_shear_degree
        self.border = int(border[0]), int(border[1])
        self.border_val = tuple(border_val)
        self.bbox_clip_border = bbox_clip_border

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.masks is not None:
            raise ValueError("RandomAffine moves boxes alone: leave out with_mask=True")
        height = sample.image.shape[0] + 2 * self.border[1]
        width = sample.image.shape[1] + 2 * self.border[0]
        angle = rng.uniform(-self.max_rotate_degree, self.max_rotate_degree)
        scale = rng.uniform(*self.scaling_ratio_range)
        shear_x, shear_y = rng.uniform(-self.max_shear_degree, self.max_shear_degree, 2)
        shift_x, shift_y = rng.uniform(-self.max_translate_ratio, self.max_translate_ratio, 2)
        matrix = affine_matrix(angle, scale, (shear_x, shear_y), (shift_x * width, shift_y * height))
        return self.warp(sample, matrix, (height, width))

    def warp(self, sample: Sample, matrix: np.ndarray, size: tuple[int, int]) -> Sample:
        """The sample mapped by a matrix [3, 3] onto an image of size (H, W), with the objects that touch it."""
        image = cv2.warpPerspective(sample.image, matrix, dsize=size[::-1], borderValue=self.border_val)
        boxes = warp_boxes(sample.boxes, matrix)
        if self.bbox_clip_border:
            boxes = clip_boxes(boxes, size)
        kept = select_objects(replace(sample, boxes=boxes), touch_image(boxes, size))
        return replace(kept, image=image, semantic=None, semantic_path=None, proposals=None)
