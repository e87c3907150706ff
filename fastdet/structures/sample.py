"""One image with its annotations: as the dataset lists it, and as the transforms change it.

Letters: M objects, H and W pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Segment = list[np.ndarray] | dict[str, Any]
"""One instance's outline in file pixels: polygons, each a float array [2 * n] of x, y, x, y, ..., or a COCO RLE dict
(`size` and `counts`, compressed or not)."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What a dataset knows of an image before it is decoded. Boxes are xyxy in file pixels."""

    image_id: int | str
    path: str
    height: int
    width: int
    boxes: np.ndarray  # [M, 4] float32
    labels: np.ndarray  # [M] int64, in [0, C)
    ignore: np.ndarray  # [M] bool: crowd (COCO) or difficult (VOC)
    segments: tuple[Segment, ...] | None = None  # one for each box
    semantic_path: str | None = None  # of the map with the class of every pixel
    proposals: np.ndarray | None = None  # [K, 4] float32: boxes that detectors without a first stage start from
    group_of: np.ndarray | None = None  # [M] bool: boxes around several objects (Open Images)
    verified: np.ndarray | None = None  # [n] int64: classes known to be, or not to be, in the image (Open Images)


@dataclass(slots=True)
class Sample:
    """What the transforms see. Each returns a new Sample; arrays of the old one are not written to.

    `masks` is either a bitmap array [M, H, W] uint8 (0 or 1) or a list of M polygon lists in image pixels.
    `scale` is (sx, sy): pixels of the present image per file pixel. `flip` is the last flip's direction.
    """

    image: np.ndarray  # [H, W, 3] uint8 (or float32), BGR
    boxes: np.ndarray  # [M, 4] float32, xyxy, pixels of `image`
    labels: np.ndarray  # [M] int64
    ignore: np.ndarray  # [M] bool
    masks: np.ndarray | list[list[np.ndarray]] | None
    image_id: int | str
    path: str
    file_size: tuple[int, int]  # (H, W) as decoded, EXIF rotation applied
    scale: tuple[float, float] = (1.0, 1.0)
    flip: str | None = None
    segments: tuple[Segment, ...] | None = None  # as the record has them; LoadAnnotations turns them into masks
    semantic_path: str | None = None  # as the record has it; LoadAnnotations reads the map
    semantic: np.ndarray | None = None  # [H, W] uint8: class of each pixel, 255 where none counts
    proposals: np.ndarray | None = None  # [K, 4] float32, xyxy, pixels of `image`
