"""Mosaics: four images on one canvas."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from fastdet.data.masks import move_masks, resize_masks
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample

from .objects import clip_boxes, join_objects, select_objects, touch_image, translate_boxes


@TRANSFORMS.register()
class Mosaic:
    """Puts the image and three others around a random point of a canvas of twice `img_scale`.

    Each image is made to fit `img_scale` and touches the point with one corner: the first lies above it to the left,
    then above right, below left and below right; what reaches beyond the canvas is cut off.

    Source: Bochkovskiy et al., YOLOv4, section 3.3; numbers as in MMDetection 3.x `Mosaic`.

    Args:
        img_scale: (width, height) that each image fits.
        center_ratio_range: (least, greatest) of the point, in `img_scale`.
        bbox_clip_border: clip boxes at the canvas.
        pad_val: of pixels that no image covers.
        prob: how likely anything happens.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        center_ratio_range: Sequence[float] = (0.5, 1.5),
        bbox_clip_border: bool = True,
        pad_val: float = 114.0,
        prob: float = 1.0,
    ) -> None:
        if len(img_scale) != 2 or min(img_scale) < 1:
            raise ValueError(f"img_scale must be (width, height), not {img_scale}")
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in [0, 1], not {prob}")
        self.fit = int(img_scale[1]), int(img_scale[0])
        self.center_ratio_range = center_ratio_range[0], center_ratio_range[1]
        self.bbox_clip_border = bbox_clip_border
        self.pad_val = pad_val
        self.prob = prob

    def mix(self, sample: Sample, draw: Callable[[], Sample], rng: np.random.Generator) -> Sample:
        """The mosaic of the sample and three that `draw` gives."""
        if rng.random() > self.prob:
            return sample
        center_x = int(rng.uniform(*self.center_ratio_range) * self.fit[1])
        center_y = int(rng.uniform(*self.center_ratio_range) * self.fit[0])
        return self.compose([sample, draw(), draw(), draw()], (center_x, center_y))

    def compose(self, samples: Sequence[Sample], center: tuple[int, int]) -> Sample:
        """The mosaic of four samples around the point (x, y)."""
        size = 2 * self.fit[0], 2 * self.fit[1]
        canvas = np.full((*size, 3), self.pad_val, samples[0].image.dtype)
        with_masks = all(s.masks is not None for s in samples)
        parts = []
        for place, sample in enumerate(samples):
            height, width = sample.image.shape[:2]
            factor = min(self.fit[0] / height, self.fit[1] / width)
            new_h, new_w = int(height * factor), int(width * factor)
            image = cv2.resize(sample.image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
            left = center[0] - new_w if place % 2 == 0 else center[0]
            top = center[1] - new_h if place < 2 else center[1]
            _paste(canvas, image, left, top)
            boxes = translate_boxes(sample.boxes * np.float32(factor), left, top)
            masks = None
            if with_masks and sample.masks is not None:
                masks = resize_masks(sample.masks, (height, width), (new_h, new_w))
                masks = move_masks(masks, left, top, size)
            parts.append(replace(sample, boxes=boxes, masks=masks))
        mosaic = join_objects(parts[0], parts[1:])
        if self.bbox_clip_border:
            mosaic = replace(mosaic, boxes=clip_boxes(mosaic.boxes, size))
        mosaic = replace(mosaic, image=canvas, scale=(1.0, 1.0), flip=None, proposals=None)
        return select_objects(mosaic, touch_image(mosaic.boxes, size))


def _paste(canvas: np.ndarray, image: np.ndarray, left: int, top: int) -> None:
    """Writes the part of the image that lies on the canvas."""
    height, width = image.shape[:2]
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + width, canvas.shape[1]), min(top + height, canvas.shape[0])
    canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]


@TRANSFORMS.register()
class CachedMosaic(Mosaic):
    """A Mosaic in a dataset's own pipeline: the others are images of the dataset after the steps before it.

    MMDetection takes them from a cache of a worker's last images, which saves reading and makes a sample depend on
    the samples before it. Here they are read, so that a sample depends on seed, epoch and position alone.

    Args:
        max_cached_images, random_pop: of the cache that is not there.
        others: see Mosaic.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        center_ratio_range: Sequence[float] = (0.5, 1.5),
        bbox_clip_border: bool = True,
        pad_val: float = 114.0,
        prob: float = 1.0,
        max_cached_images: int = 40,
        random_pop: bool = True,
    ) -> None:
        super().__init__(img_scale, center_ratio_range, bbox_clip_border, pad_val, prob)
