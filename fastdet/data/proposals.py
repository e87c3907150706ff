"""Files of proposals that were computed before: MMDetection's pickles of both releases."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastdet.data.pickles import load_plain_pickle
from fastdet.utils.errors import DataError


def load_proposals(path: str, image_paths: Sequence[str]) -> list[np.ndarray]:
    """The proposals of each image, float32 [K, 4] xyxy in file pixels, in the order of the file (best first).

    Args:
        path: a pickle: a dict from "<folder>/<file name>" to dict(bboxes [K, 4], scores [K]) as 3.x has it, or a list
            of arrays [K, 4] or [K, 5] in the order of the images as 2.x has it.
        image_paths: the images of the annotation file, in its order.

    Raises:
        DataError: the file is missing or no such pickle, or images lack proposals.
    """
    found = load_plain_pickle(path, "proposals")
    if isinstance(found, Mapping):
        names = [os.path.join(os.path.basename(os.path.dirname(p)), os.path.basename(p)) for p in image_paths]
        missing = [name for name in names if name not in found]
        if missing:
            raise DataError(
                f"{path}: {len(missing)} of {len(names)} images have no proposals, for example {missing[0]!r}"
            )
        found = [found[name] for name in names]
    if not isinstance(found, list) or len(found) != len(image_paths):
        size = f"{len(found)} entries" if isinstance(found, list) else type(found).__name__
        raise DataError(f"{path}: proposals of {len(image_paths)} images are needed, the file holds {size}")
    return [_boxes(entry, path) for entry in found]


def _boxes(entry: Any, path: str) -> np.ndarray:
    boxes = entry.get("bboxes") if isinstance(entry, Mapping) else entry
    if not isinstance(boxes, np.ndarray) or (boxes.size and (boxes.ndim != 2 or boxes.shape[1] not in (4, 5))):
        raise DataError(f"{path}: proposals of an image must be an array [K, 4] or [K, 5]")
    return np.ascontiguousarray(boxes.reshape(len(boxes), -1)[:, :4] if boxes.size else np.zeros((0, 4)), np.float32)
