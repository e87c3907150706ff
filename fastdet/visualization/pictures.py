"""Writing drawn pictures."""

import os
from pathlib import Path

import cv2
import numpy as np

from fastdet.utils.files import write_bytes


def write_picture(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Encodes a BGR picture in the format of the path's suffix and writes it whole or not at all.

    Raises:
        ValueError: a suffix that OpenCV does not write.
    """
    suffix = Path(path).suffix
    try:
        done, data = cv2.imencode(suffix, image)
    except cv2.error as problem:
        raise ValueError(f"{path}: no picture format of suffix {suffix!r}; use .jpg or .png") from problem
    if not done:
        raise ValueError(f"{path}: a picture of shape {image.shape} cannot be encoded as {suffix!r}")
    write_bytes(path, data.tobytes())
