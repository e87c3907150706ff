"""MixUp: the mean of two images."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from fastdet.data.masks import flip_masks, move_masks, resize_masks
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample

from .flip import flip_boxes
from .objects import clip_boxes, join_objects, select_objects, touch_image, translate_boxes


@TRANSFORMS.register()
class MixUp:
    """Averages the image with another one, which is fitted to `img_scale`, scaled, mirrored and cropped by chance.

    Source: Zhang et al., mixup (ICLR 2018), in the form of Ge et al., YOLOX, section 2.1; numbers as in MMDetection
    3.x `MixUp`, where the other image is mirrored with probability 1 - `flip_ratio`.

    Args:
        img_scale: (width, height) that the other image fits before it is scaled.
        ratio_range: (least, greatest) factor of the scaling.
        flip_ratio: how likely the other image is not mirrored.
        pad_val: of pixels beside the other image.
        max_iters: images tried until one has objects; without one nothing happens.
        bbox_clip_border: clip boxes at the image.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        ratio_range: Sequence[float] = (0.5, 1.5),
        flip_ratio: float = 0.5,
        pad_val: float = 114.0,
        max_iters: int = 15,
        bbox_clip_border: bool = True,
    ) -> None:
        if len(img_scale) != 2 or min(img_scale) < 1:
            raise ValueError(f"img_scale must be (width, height), not {img_scale}")
        self.fit = int(img_scale[1]), int(img_scale[0])
        self.ratio_range = ratio_range[0], ratio_range[1]
        self.flip_ratio = flip_ratio
        self.pad_val = pad_val
        self.max_iters = max_iters
        self.bbox_clip_border = bbox_clip_border

    def mix(self, sample: Sample, draw: Callable[[], Sample], rng: np.random.Generator) -> Sample:
        """The sample averaged with one that `draw` gives."""
        for _ in range(self.max_iters):
            other = draw()
            if len(other.boxes):
                break
        else:
            return sample
        ratio = rng.uniform(*self.ratio_range)
        canvas, other = self.prepare(other, ratio, is_flipped=bool(rng.random() > self.flip_ratio))
        height, width = sample.image.shape[:2]
        room_y, room_x = canvas.shape[0] - height, canvas.shape[1] - width
        top = int(rng.integers(room_y)) if room_y > 0 else 0
        left = int(rng.integers(room_x)) if room_x > 0 else 0
        return self.blend(sample, canvas, other, left, top)

    def prepare(self, other: Sample, ratio: float, *, is_flipped: bool) -> tuple[np.ndarray, Sample]:
        """The other image on its scaled and mirrored canvas, and the sample with its objects in the canvas's pixels."""
        height, width = other.image.shape[:2]
        factor = min(self.fit[0] / height, self.fit[1] / width)
        new_h, new_w = int(height * factor), int(width * factor)
        # Doubles, which are cut off to whole values in the end, as in MMDetection.
        canvas: np.ndarray = np.full((*self.fit, 3), self.pad_val, np.float64)
        canvas[:new_h, :new_w] = cv2.resize(other.image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        size = int(self.fit[0] * ratio), int(self.fit[1] * ratio)
        canvas = cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_LINEAR)
        boxes = other.boxes * np.float32(factor * ratio)
        masks = other.masks
        if masks is not None:
            masks = resize_masks(masks, (height, width), (round(new_h * ratio), round(new_w * ratio)))
            masks = move_masks(masks, 0, 0, size)
        if self.bbox_clip_border:
            boxes = clip_boxes(boxes, size)
        if is_flipped:
            canvas = canvas[:, ::-1]
            boxes = flip_boxes(boxes, size, "horizontal")
            masks = None if masks is None else flip_masks(masks, size, "horizontal")
        return canvas.astype(np.uint8), replace(other, boxes=boxes, masks=masks)

    def blend(self, sample: Sample, canvas: np.ndarray, other: Sample, left: int, top: int) -> Sample:
        """The mean of the sample and the canvas from (left, top) on, with the objects of both."""
        size = sample.image.shape[:2]
        part = np.full((*size, 3), self.pad_val, np.float64).astype(np.uint8)
        seen = canvas[top : top + size[0], left : left + size[1]]
        part[: seen.shape[0], : seen.shape[1]] = seen
        image = 0.5 * sample.image.astype(np.float32) + 0.5 * part.astype(np.float32)
        boxes = translate_boxes(other.boxes, -left, -top)
        if self.bbox_clip_border:
            boxes = clip_boxes(boxes, size)
        masks = None if other.masks is None else move_masks(other.masks, -left, -top, size)
        mixed = join_objects(sample, [replace(other, boxes=boxes, masks=masks)])
        mixed = replace(mixed, image=image.astype(np.uint8), proposals=None)
        return select_objects(mixed, touch_image(mixed.boxes, size))


@TRANSFORMS.register()
class CachedMixUp(MixUp):
    """A MixUp in a dataset's own pipeline: the other is an image of the dataset after the steps before it.

    MMDetection takes it from a cache, see `CachedMosaic`.

    Args:
        max_cached_images, random_pop: of the cache that is not there.
        prob: how likely anything happens.
        others: see MixUp.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        ratio_range: Sequence[float] = (0.5, 1.5),
        flip_ratio: float = 0.5,
        pad_val: float = 114.0,
        max_iters: int = 15,
        bbox_clip_border: bool = True,
        max_cached_images: int = 20,
        random_pop: bool = True,
        prob: float = 1.0,
    ) -> None:
        super().__init__(img_scale, ratio_range, flip_ratio, pad_val, max_iters, bbox_clip_border)
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in [0, 1], not {prob}")
        self.prob = prob

    def mix(self, sample: Sample, draw: Callable[[], Sample], rng: np.random.Generator) -> Sample:
        """The sample averaged with one that `draw` gives."""
        return sample if rng.random() > self.prob else super().mix(sample, draw, rng)
