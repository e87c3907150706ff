"""Mask geometry, against hand-made masks and against the whole-image rasteriser."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdet.data.masks import (
    clip_polygon,
    compress_rle,
    crop_masks,
    flip_masks,
    mask_areas,
    mask_boxes,
    pad_masks,
    polygons_to_bitmap,
    resize_masks,
    rle_to_bitmap,
    window_masks,
)

SQUARE = np.array([2.0, 1, 6, 1, 6, 4, 2, 4])  # x 2..6, y 1..4


def square_bitmap(size: tuple[int, int] = (6, 8)) -> np.ndarray:
    bitmap = np.zeros(size, np.uint8)
    bitmap[1:4, 2:6] = 1
    return bitmap


def unpack(masks: np.ndarray | list, size: tuple[int, int]) -> np.ndarray:
    """Windows pasted back into whole images."""
    windows = window_masks(masks, size)
    out = np.zeros((len(windows.windows), *size), np.uint8)
    for i, (x, y, w, h) in enumerate(windows.windows):
        start = windows.offsets[i]
        out[i, y : y + h, x : x + w] = windows.bits[start : start + w * h].reshape(h, w)
    return out


def test_a_square_fills_its_pixels() -> None:
    np.testing.assert_array_equal(polygons_to_bitmap([SQUARE], (6, 8)), square_bitmap())


def test_rle_of_every_kind_decodes() -> None:
    # Down the columns: two empty columns of 6, then 1 off, 3 on, 3 off, 3 on, ...
    counts = [13, 3, 3, 3, 3, 3, 3, 3, 14]
    rle = {"size": [6, 8], "counts": counts}
    packed = compress_rle(rle)
    for form in (rle, packed, {**packed, "counts": packed["counts"].decode()}):
        np.testing.assert_array_equal(rle_to_bitmap(form), square_bitmap())


@pytest.mark.parametrize("rle", [{}, {"size": [3, 3]}, {"counts": [9]}, {"size": [3], "counts": [9]}])
def test_a_dict_that_is_no_rle_is_refused(rle: dict) -> None:
    with pytest.raises(ValueError, match="an RLE needs"):
        compress_rle(rle)


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_bitmaps_and_polygons_flip_alike(direction: str) -> None:
    bitmap = flip_masks(square_bitmap()[None], (6, 8), direction)[0]
    polygons = flip_masks([[SQUARE]], (6, 8), direction)[0]
    np.testing.assert_array_equal(polygons_to_bitmap(polygons, (6, 8)), bitmap)
    x, y = (2 if direction == "vertical" else 8 - 6), (1 if direction == "horizontal" else 6 - 4)
    np.testing.assert_array_equal(mask_boxes(bitmap[None]), [[x, y, x + 4, y + 3]])


def test_resizing_by_two_doubles_both_kinds() -> None:
    bitmap = resize_masks(square_bitmap()[None], (6, 8), (12, 16))
    polygons = resize_masks([[SQUARE]], (6, 8), (12, 16))
    np.testing.assert_array_equal(mask_boxes(bitmap), [[4, 2, 12, 8]])
    np.testing.assert_array_equal(polygons[0][0], SQUARE * 2)
    assert mask_areas(bitmap)[0] == mask_areas(polygons)[0] == 48


def test_crop_cuts_both_kinds_to_the_window() -> None:
    window = (3, 2, 4, 3)  # x0, y0, width, height: leaves x 3..6, y 2..4 of the square
    bitmap = crop_masks(square_bitmap()[None], window)
    polygons = crop_masks([[SQUARE]], window)
    for masks in (bitmap, polygons):
        np.testing.assert_array_equal(mask_boxes(masks), [[0, 0, 3, 2]])
        np.testing.assert_array_equal(mask_areas(masks), [6])


def test_a_polygon_outside_the_window_leaves_an_empty_mask() -> None:
    masks = crop_masks([[SQUARE]], (7, 0, 1, 6))
    assert masks == [[]]
    np.testing.assert_array_equal(mask_boxes(masks), [[0, 0, 0, 0]])
    np.testing.assert_array_equal(mask_areas(masks), [0])


def test_a_concave_polygon_that_falls_apart_keeps_its_area() -> None:
    # A U whose two arms are cut off from their base by the window's lower border.
    u = np.array([0.0, 0, 2, 0, 2, 6, 4, 6, 4, 0, 6, 0, 6, 8, 0, 8])
    clipped = clip_polygon(u, (5, 10))
    assert mask_areas([[clipped]])[0] == 2 * (2 * 5)
    bitmap = polygons_to_bitmap([clipped], (5, 10))
    np.testing.assert_array_equal(bitmap, polygons_to_bitmap([u], (8, 10))[:5])


def test_padding_adds_zeros_to_bitmaps_alone() -> None:
    padded = pad_masks(square_bitmap()[None], (9, 8))
    assert padded.shape == (1, 9, 8)
    assert padded.sum() == 12
    assert pad_masks([[SQUARE]], (9, 8)) == [[SQUARE]]


def test_windows_of_nothing_are_empty() -> None:
    for masks in (np.zeros((0, 4, 5), np.uint8), []):
        windows = window_masks(masks, (4, 5))
        assert windows.bits.shape == (0,)
        assert windows.windows.shape == (0, 4)
    windows = window_masks(np.zeros((2, 4, 5), np.uint8), (4, 5))
    np.testing.assert_array_equal(windows.windows, np.zeros((2, 4)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_pixel_is_lost_in_windows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = tuple(int(v) for v in rng.integers(1, 40, 2))
    bitmaps = (rng.random((3, *size)) < rng.choice([0.02, 0.5])).astype(np.uint8)
    np.testing.assert_array_equal(unpack(bitmaps, size), bitmaps)
    # Polygons of several parts, some of them partly or wholly outside the image.
    polygons = [
        [rng.uniform(-15, 55, size=2 * int(rng.integers(3, 9))) for _ in range(int(rng.integers(1, 3)))]
        for _ in range(3)
    ]
    whole = np.stack([polygons_to_bitmap(p, size) for p in polygons])
    np.testing.assert_array_equal(unpack(polygons, size), whole)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_clipping_changes_area_and_box_as_the_rasteriser_sees_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygon = rng.uniform(-30, 90, size=6)  # a triangle: clipping it gives its exact intersection
    clipped = clip_polygon(polygon, (60, 60))
    whole = polygons_to_bitmap([polygon], (60, 60))
    area = mask_areas([[clipped]])[0] if len(clipped) else 0.0
    # Each pixel that the outline passes may be counted or not: the outline in the image is at most 4 * 60 + 60 long.
    assert abs(area - whole.sum()) <= 300
    if len(clipped):
        assert clipped.min() >= 0
        assert clipped.max() <= 60
