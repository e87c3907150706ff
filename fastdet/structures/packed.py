"""One image's detections in compact form, as metrics keep, gather and write them: arrays, and masks as COCO RLE."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle_codec

from fastdet.structures.batch import ImageMeta
from fastdet.structures.results import Instances

Rle = dict[str, Any]
"""A COCO run-length mask: `size` (height, width) as a list, `counts` as text in COCO's compressed form."""


@dataclass(frozen=True, slots=True)
class PackedResult:
    """One image's detections in file pixels, on the host. Sizes are (H, W)."""

    image_id: int | str
    path: str
    file_size: tuple[int, int]
    input_size: tuple[int, int]
    scale: tuple[float, float]  # (sx, sy): input pixels per file pixel
    boxes: np.ndarray  # [n, 4] float32, xyxy
    scores: np.ndarray  # [n] float32
    labels: np.ndarray  # [n] int64
    masks: tuple[Rle, ...] | None = None  # one for each box

    def __len__(self) -> int:
        return len(self.scores)


def pack_result(instances: Instances, meta: ImageMeta, *, with_masks: bool = True) -> PackedResult:
    """The compact form of one image's detections; masks become RLE, or are left out."""
    instances = instances.cpu() if with_masks else Instances(instances.bboxes, instances.scores, instances.labels).cpu()
    return PackedResult(
        image_id=meta.image_id,
        path=meta.path,
        file_size=meta.file_size,
        input_size=meta.input_size,
        scale=meta.scale,
        boxes=instances.bboxes.float().numpy(),
        scores=instances.scores.float().numpy(),
        labels=instances.labels.long().numpy(),
        masks=None if instances.masks is None else tuple(encode_masks(instances.masks.numpy())),
    )


def encode_masks(masks: np.ndarray) -> list[Rle]:
    """COCO RLE of bitmaps [n, H, W] (bool, or integers where non-zero is inside)."""
    if len(masks) == 0:
        return []
    columns = np.ascontiguousarray((masks != 0).transpose(0, 2, 1)).view(np.uint8)  # [n, W, H]: RLE runs down columns
    encoded = rle_codec.encode(columns.T)  # [H, W, n] in Fortran order, a view
    return [{"size": [int(s) for s in rle["size"]], "counts": rle["counts"].decode()} for rle in encoded]


def decode_masks(rles: Sequence[Rle]) -> np.ndarray:
    """Bitmaps [n, H, W] bool of at least one COCO RLE; all of one size."""
    return rle_codec.decode(list(rles)).transpose(2, 0, 1).astype(bool)
