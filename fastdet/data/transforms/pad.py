"""Padding of single images; batches are padded by the collate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from fastdet.data.masks import pad_masks
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample

BORDERS = {
    "constant": cv2.BORDER_CONSTANT,
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
}


@TRANSFORMS.register()
class Pad:
    """Pads the image at the right and bottom; afterwards the padding belongs to the image. Source: mmcv `Pad`.

    Args:
        size: (width, height) to pad to; an image that is larger stays as it is.
        size_divisor: pad both sides to multiples of this.
        pad_to_square: pad to the longer side, then to `size_divisor` if given.
        pad_val: value of the new pixels (one, or one a channel), or a dict with `img`, `masks` and `seg` (of semantic
            maps, 255 by default).
        padding_mode: constant, edge, reflect or symmetric, for the image.
    """

    def __init__(
        self,
        size: Sequence[int] | None = None,
        size_divisor: int | None = None,
        pad_to_square: bool = False,
        pad_val: float | Sequence[float] | Mapping[str, float | Sequence[float]] = 0,
        padding_mode: str = "constant",
    ) -> None:
        if size is not None and (size_divisor is not None or pad_to_square):
            raise ValueError("Pad takes size, or size_divisor and pad_to_square, not both")
        if size is None and size_divisor is None and not pad_to_square:
            raise ValueError("Pad needs size, size_divisor or pad_to_square")
        if padding_mode not in BORDERS:
            raise ValueError(f"padding_mode must be one of {', '.join(BORDERS)}, not {padding_mode!r}")
        values = pad_val if isinstance(pad_val, Mapping) else {"img": pad_val}
        value = values.get("img", 0)
        self.size = None if size is None else (size[1], size[0])
        self.size_divisor = size_divisor
        self.pad_to_square = pad_to_square
        self.value = tuple(value) if isinstance(value, Sequence) else (value,) * 3
        self.mask_value = int(values.get("masks", 0))  # type: ignore[arg-type]
        self.semantic_value = int(values.get("seg", 255))  # type: ignore[arg-type]
        self.border = BORDERS[padding_mode]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.image.shape[:2]
        new_h, new_w = self.size or (height, width)
        if self.pad_to_square:
            new_h = new_w = max(height, width)
        if self.size_divisor is not None:
            new_h, new_w = (-(-side // self.size_divisor) * self.size_divisor for side in (new_h, new_w))
        bottom, right = max(new_h - height, 0), max(new_w - width, 0)
        image = cv2.copyMakeBorder(sample.image, 0, bottom, 0, right, self.border, value=self.value)
        masks, semantic = sample.masks, sample.semantic
        if masks is not None:
            masks = pad_masks(masks, (new_h, new_w), self.mask_value)
        if semantic is not None:
            semantic = cv2.copyMakeBorder(semantic, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=self.semantic_value)
        return replace(sample, image=image, masks=masks, semantic=semantic)
