"""Decoding of image files into BGR arrays, with one clear error for a file that cannot be used."""

import os

import cv2
import numpy as np

from fastdet.utils.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


def read_image(path: str | os.PathLike[str], *, ignore_orientation: bool = False) -> np.ndarray:
    """Decodes an image file as OpenCV does in colour mode.

    Grey images get three equal channels, alpha is dropped, palettes are resolved, 16 bits become 8, the first picture
    of an animation is taken, and EXIF orientation is applied.

    Args:
        ignore_orientation: leave the pixels as stored, whatever EXIF says.

    Returns:
        uint8 [H, W, 3], BGR.

    Raises:
        DataError: the file is missing, empty, truncated, or of a kind that this OpenCV does not read.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read()
    except OSError as problem:
        raise DataError(f"{name}: image cannot be read: {problem.strerror or problem}") from problem
    return decode_image(data, name, ignore_orientation=ignore_orientation)


def decode_image(data: bytes, name: str, *, ignore_orientation: bool = False) -> np.ndarray:
    """Decodes an encoded image held in memory; `name` stands in messages. See `read_image`."""
    if not data:
        raise DataError(f"{name}: image file is empty (0 bytes)")
    missing = _missing_end(data)
    if missing:
        raise DataError(
            f"{name}: image is truncated ({len(data)} bytes, {missing})\n"
            "  fix: copy or download it again; `fastdet data check --full` finds all such files"
        )
    flags = cv2.IMREAD_COLOR
    if ignore_orientation:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as problem:
        raise DataError(f"{name}: image cannot be decoded: {problem}") from problem
    if image is None:
        raise DataError(
            f"{name}: image cannot be decoded by OpenCV {cv2.__version__} ({len(data)} bytes, {data[:4]!r}...)\n"
            "  fix: the file is damaged or of an unknown kind; save it again as JPEG or PNG"
        )
    return image


def read_map(path: str | os.PathLike[str]) -> np.ndarray:
    """Decodes a picture whose values are classes, one channel of 8 bits, as it is stored.

    Returns:
        uint8 [H, W].

    Raises:
        DataError: the file is missing or damaged, or has several channels or more bits.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read()
    except OSError as problem:
        raise DataError(f"{name}: semantic map cannot be read: {problem.strerror or problem}") from problem
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if found is None or _missing_end(data):
        raise DataError(f"{name}: semantic map cannot be decoded ({len(data)} bytes)")
    if found.ndim != 2 or found.dtype != np.uint8:
        raise DataError(
            f"{name}: a semantic map has one channel of 8 bits, this picture has the shape {found.shape} and "
            f"{found.dtype}"
        )
    return found


def _missing_end(data: bytes) -> str:
    """What the end of a cut-off file lacks, or "". OpenCV fills such JPEGs with grey and only warns on stderr."""
    if data.startswith(b"\xff\xd8"):
        # Marker bytes inside the scan are escaped, and an EXIF thumbnail lies before the last scan.
        if not data.endswith(b"\xff\xd9") and data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
            return "no end-of-image marker"
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        if data.rfind(b"IEND") < 0:
            return "no IEND chunk"
    elif data.startswith((b"GIF87a", b"GIF89a")):
        if b";" not in data[-16:]:
            return "no GIF trailer"
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        declared = int.from_bytes(data[4:8], "little") + 8
        if len(data) < declared:
            return f"{declared} bytes declared"
    return ""
