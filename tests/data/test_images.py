"""Decoding: modes, orientation, damaged files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fastdet.data.images import read_image
from fastdet.utils.errors import DataError


def write(path: Path, image: np.ndarray) -> bytes:
    assert cv2.imwrite(str(path), image)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tiff"])
def test_grey_and_colour_and_alpha_give_three_channels(tmp_path: Path, suffix: str) -> None:
    for channels in (1, 3, 4):
        if channels == 4 and suffix == ".bmp":
            continue
        path = tmp_path / f"{channels}{suffix}"
        write(path, np.full((5, 7, channels), 200, np.uint8))
        image = read_image(path)
        assert image.shape == (5, 7, 3)
        assert image.dtype == np.uint8


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.97])
def test_a_truncated_file_is_one_error_with_its_name(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"cut{suffix}"
    data = write(path, np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(DataError, match=rf"cut\{suffix}"):
        read_image(path)


def test_bytes_after_the_end_of_a_jpeg_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "tail.jpg"
    data = write(path, np.zeros((8, 8, 3), np.uint8))
    path.write_bytes(data + b"camera maker's notes")
    assert read_image(path).shape == (8, 8, 3)


def test_missing_files_and_texts_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jpg: image cannot be read: No such file"):
        read_image(tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(DataError, match=r"text\.jpg: image cannot be decoded"):
        read_image(tmp_path / "text.jpg")


def test_exif_orientation_is_applied_unless_told_otherwise(shared: Path) -> None:
    path = shared / "photos" / "color_exif.jpg"
    assert read_image(path).shape == (400, 300, 3)
    assert read_image(path, ignore_orientation=True).shape == (300, 400, 3)


@pytest.mark.parametrize(
    ("name", "size"), [("gray.jpg", (288, 512)), ("gray_alpha.png", (400, 500)), ("grayscale.jpg", (300, 400))]
)
def test_odd_modes_decode(shared: Path, name: str, size: tuple[int, int]) -> None:
    assert read_image(shared / "photos" / name).shape == (*size, 3)


def test_palette_gif_decodes_or_says_what_to_do(shared: Path) -> None:
    path = shared / "photos" / "palette.gif"
    if cv2.imread(str(path)) is None:  # OpenCV before 4.11
        with pytest.raises(DataError, match="save it again"):
            read_image(path)
    else:
        assert read_image(path).shape == (300, 400, 3)
