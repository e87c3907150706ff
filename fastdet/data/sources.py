"""What `fastdet predict` reads: a picture, a folder, a glob, a list file or a video, as a stream of named frames."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fastdet.utils.errors import DataError

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}


class Frame(NamedTuple):
    """One picture to detect objects in: `name` is its relative path for outputs, `image` a path or a BGR array."""

    name: str
    image: str | np.ndarray


def frames(source: str) -> Iterator[Frame]:
    """The frames of a source, in a fixed order (names sorted; video frames by time).

    Raises:
        DataError: nothing is there, nothing in it is a picture, or the video cannot be opened.
    """
    path = Path(source)
    if path.is_dir():
        yield from _folder(path)
    elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        yield from _video(path)
    elif path.is_file():
        yield Frame(path.name, str(path))
    elif glob.has_magic(source):
        matches = sorted(p for p in glob.glob(source, recursive=True) if Path(p).is_file())
        if not matches:
            raise DataError(f"no file matches {source!r}")
        top = os.path.commonpath([os.path.dirname(p) for p in matches])
        yield from (Frame(os.path.relpath(p, top or "."), p) for p in matches)
    else:
        raise DataError(f"{source!r} is no file, no folder and no pattern that matches files")


def _folder(folder: Path) -> Iterator[Frame]:
    pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        raise DataError(f"no pictures in {folder}; known suffixes: {' '.join(sorted(PICTURE_SUFFIXES))}")
    for picture in pictures:
        yield Frame(str(picture.relative_to(folder)), str(picture))


def _video(path: Path) -> Iterator[Frame]:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DataError(f"{path} cannot be opened as a video")
        index = 0
        while True:
            there, image = capture.read()
            if not there:
                break
            yield Frame(f"{path.stem}/{index:06d}.jpg", image)
            index += 1
        if index == 0:
            raise DataError(f"{path} holds no frame that can be decoded")
    finally:
        capture.release()
