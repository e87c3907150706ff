"""Test transforms that a device can do: one bilinear resize, and the padding to the graph's shape, in one kernel.

Letters: B pictures, H and W pixels of the graph.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastdet import ops
from fastdet.data.pipeline import Image, Transform, prepare
from fastdet.data.transforms.loading import LoadImageFromFile
from fastdet.data.transforms.resize import FixScaleResize, Resize
from fastdet.structures import ImageMeta


class Pictures(NamedTuple):
    """Decoded pictures and what becomes of them."""

    pixels: list[np.ndarray]  # each [h, w, 3] uint8 BGR
    metas: tuple[ImageMeta, ...]


class Fitting:
    """The resize of a detector's test transforms.

    Args:
        load: the transform that reads pictures.
        resize: the transform that resizes them.
    """

    def __init__(self, load: LoadImageFromFile, resize: Resize) -> None:
        self._load = load
        self._resize = resize

    @classmethod
    def of(cls, transforms: Sequence[Transform]) -> "Fitting | None":
        """None where the transforms do anything else than read bytes and resize them bilinearly."""
        if len(transforms) != 2:
            return None
        load, resize = transforms
        if not isinstance(load, LoadImageFromFile) or load.to_float32:
            return None
        if type(resize) not in (Resize, FixScaleResize) or resize.interpolation != "bilinear":  # type: ignore[attr-defined]
            return None
        assert isinstance(resize, Resize)
        return cls(load, resize)

    def read(self, images: Sequence[Image], first: int = 0) -> Pictures | None:
        """The pictures as the transforms would make them, not yet resized; None if one is not of bytes.

        Args:
            first: the number of the first picture.

        Raises:
            DataError: a picture cannot be read.
        """
        pixels, metas = [], []
        for number, image in enumerate(images, first):
            sample = prepare(image, (self._load,), number)
            if sample.image.dtype != np.uint8:
                return None
            height, width = sample.image.shape[:2]
            new = self._resize.new_size((height, width))
            pixels.append(sample.image)
            metas.append(ImageMeta(number, sample.path, (height, width), new, (new[1] / width, new[0] / height)))
        return Pictures(pixels, tuple(metas))

    @staticmethod
    def fit(pictures: Pictures, shape: tuple[int, int], device: torch.device, *, channels_first: bool) -> Tensor:
        """The images of a graph, uint8 [B, H, W, 3] or [B, 3, H, W], on the device; each picture must fit."""
        starts = np.cumsum([0, *(p.size for p in pictures.pixels)])[:-1].tolist()
        places = [[start, *p.shape[:2]] for start, p in zip(starts, pictures.pixels, strict=True)]
        sizes = [meta.input_size for meta in pictures.metas]
        joined = torch.from_numpy(np.concatenate([p.reshape(-1) for p in pictures.pixels]))

        def sent(values: Tensor) -> Tensor:
            return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values

        return ops.fit_images(
            sent(joined), sent(torch.tensor(places)), sent(torch.tensor(sizes)), shape, channels_first=channels_first
        )
