"""Loading, colours and filtering."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastdet.data.pipeline import run_transforms, sample_of_array, sample_of_file
from fastdet.data.transforms import (
    FilterAnnotations,
    LoadAnnotations,
    LoadImageFromFile,
    Normalize,
    PhotoMetricDistortion,
    RandomCrop,
    RandomFlip,
    Resize,
)
from fastdet.structures import Sample
from fastdet.utils.errors import DataError

MakeSample = Callable[..., Sample]
SQUARE = [np.array([2.0, 1, 6, 1, 6, 5, 2, 5])]
RLE = {"size": [10, 20], "counts": [50, 100, 50]}


def with_segments(make_sample: MakeSample, *segments: object) -> Sample:
    return replace(make_sample(boxes=[[2, 1, 6, 5]] * len(segments)), segments=segments)


def test_pixels_come_from_the_file_once(tmp_path: Path, rng: np.random.Generator) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    out = LoadImageFromFile(to_float32=True)(sample_of_file(str(tmp_path / "a.png")), rng)
    np.testing.assert_array_equal(out.image, image.astype(np.float32))
    assert out.file_size == (4, 6)
    kept = LoadImageFromFile()(sample_of_array(image, path="nowhere.png"), rng)
    np.testing.assert_array_equal(kept.image, image)


def test_arrays_must_be_images() -> None:
    assert sample_of_array(np.zeros((4, 6), np.uint8)).image.shape == (4, 6, 3)
    for shape in ((4, 6, 4), (0, 6, 3), (4,)):
        with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
            sample_of_array(np.zeros(shape, np.uint8))


def test_outlines_become_bitmaps_or_stay_polygons(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = with_segments(make_sample, SQUARE, RLE, [])
    bitmaps = LoadAnnotations(with_mask=True)(sample, rng)
    assert bitmaps.masks.shape == (3, 10, 20)
    np.testing.assert_array_equal(bitmaps.masks.reshape(3, -1).sum(axis=1), [16, 100, 0])
    np.testing.assert_array_equal(bitmaps.ignore, [False, False, True])
    polygons = LoadAnnotations(with_mask=True, poly2mask=False)(sample, rng)
    assert [len(p) for p in polygons.masks] == [1, 0, 0]
    np.testing.assert_array_equal(polygons.ignore, [False, True, True])
    assert LoadAnnotations()(sample, rng).masks is None


def test_masks_loaded_after_a_resize_follow_it(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = with_segments(make_sample, SQUARE, RLE)
    for poly2mask in (True, False):
        load, resize = LoadAnnotations(with_mask=True, poly2mask=poly2mask), Resize(scale=(33, 15), keep_ratio=True)
        before = resize(load(sample, rng), rng)
        after = load(resize(sample, rng), rng)
        for one, other in zip(before.masks, after.masks, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(before.boxes, after.boxes)


def test_masks_cannot_be_loaded_after_a_flip_or_a_crop(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = with_segments(make_sample, SQUARE)
    with pytest.raises(ValueError, match="before RandomFlip"):
        LoadAnnotations(with_mask=True)(RandomFlip(1.0)(sample, rng), rng)
    with pytest.raises(ValueError, match="before RandomCrop"):
        LoadAnnotations(with_mask=True)(RandomCrop((5, 5), allow_negative_crop=True)(sample, rng), rng)


def test_an_rle_of_another_size_is_an_error(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = with_segments(make_sample, {"size": [20, 10], "counts": [200]})
    with pytest.raises(DataError, match=r"made\.png: a mask of H x W = 20 x 10, an image of 10 x 20"):
        LoadAnnotations(with_mask=True)(sample, rng)


def test_masks_of_a_set_without_outlines_are_an_error(make_sample: MakeSample, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="no segmentation"):
        LoadAnnotations(with_mask=True)(make_sample(), rng)


def test_without_boxes_nothing_is_left(make_sample: MakeSample, rng: np.random.Generator) -> None:
    out = LoadAnnotations(with_bbox=False)(make_sample(), rng)
    assert out.boxes.shape == (0, 4)
    assert out.labels.shape == out.ignore.shape == (0,)


def test_normalising_turns_to_rgb_first(make_sample: MakeSample, rng: np.random.Generator) -> None:
    image = np.array([[[10, 20, 30]]], np.uint8)
    sample = replace(make_sample(), image=image)
    out = Normalize(mean=(1, 2, 3), std=(1, 2, 4))(sample, rng)
    np.testing.assert_array_equal(out.image, np.array([[[29, 9, 7 / 4]]], np.float32))
    out = Normalize(mean=(1, 2, 3), std=(1, 2, 4), to_rgb=False)(sample, rng)
    np.testing.assert_array_equal(out.image, np.array([[[9, 9, 27 / 4]]], np.float32))


def test_photometric_distortion_varies_and_keeps_its_range(make_sample: MakeSample) -> None:
    sample = make_sample()
    distort = PhotoMetricDistortion()
    images = [distort(sample, np.random.default_rng(seed)).image for seed in range(40)]
    assert all(image.dtype == np.float32 for image in images)
    assert all(image.min() >= -32 * 1.5 - 1 and image.max() <= (255 + 32) * 1.5 + 1 for image in images)
    assert len({image.tobytes() for image in images}) > 30
    np.testing.assert_array_equal(images[3], distort(sample, np.random.default_rng(3)).image)


def test_brightness_alone_shifts_every_pixel(make_sample: MakeSample) -> None:
    still = PhotoMetricDistortion(brightness_delta=0, contrast_range=(1, 1), saturation_range=(1, 1), hue_delta=0)
    sample = make_sample()
    for seed in range(8):
        image = still(sample, np.random.default_rng(seed)).image
        # Channels may still be swapped; the way through HSV costs a few float32 roundings of 255.
        np.testing.assert_allclose(np.sort(image), np.sort(sample.image.astype(np.float32)), atol=255 * 2**-20)


def test_small_boxes_and_masks_are_filtered(make_sample: MakeSample, rng: np.random.Generator) -> None:
    bitmaps = np.zeros((2, 10, 20), np.uint8)
    bitmaps[0, 0, :5] = 1
    sample = make_sample(masks=bitmaps)  # boxes of 4 x 4 and 8 x 5
    np.testing.assert_array_equal(FilterAnnotations(min_gt_bbox_wh=(3.9, 3.9))(sample, rng).labels, [0, 1])
    np.testing.assert_array_equal(FilterAnnotations(min_gt_bbox_wh=(4, 4))(sample, rng).labels, [1])
    out = FilterAnnotations(by_box=False, by_mask=True, min_gt_mask_area=5)(sample, rng)
    np.testing.assert_array_equal(out.labels, [0])
    assert out.masks.shape == (1, 10, 20)
    strict = FilterAnnotations(min_gt_bbox_wh=(100, 100))
    assert strict(sample, rng) is None
    assert strict(make_sample(boxes=[]), rng).boxes.shape == (0, 4)
    assert FilterAnnotations(min_gt_bbox_wh=(100, 100), keep_empty=False)(sample, rng).boxes.shape == (0, 4)
    with pytest.raises(ValueError, match="with_mask=True"):
        FilterAnnotations(by_mask=True)(make_sample(), rng)


def test_a_failing_transform_names_itself_and_the_image(make_sample: MakeSample, rng: np.random.Generator) -> None:
    class Broken:
        def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
            raise KeyError("size")

    with pytest.raises(DataError, match=r"made\.png: Broken failed: KeyError: 'size'"):
        run_transforms([Broken()], make_sample(), rng)
