"""Resizing, flipping, padding and cropping of samples, with numbers worked out by hand."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from fastdet.data.transforms import (
    FixScaleResize,
    Pad,
    RandomChoiceResize,
    RandomCrop,
    RandomFlip,
    RandomResize,
    Resize,
)
from fastdet.data.transforms.resize import fit_size
from fastdet.structures import Sample

MakeSample = Callable[..., Sample]
SQUARES = [[np.array([2.0, 1, 6, 1, 6, 5, 2, 5])], [np.array([10.0, 4, 18, 4, 18, 9, 10, 9])]]


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((427, 640), (1333, 800), (800, 1199)),  # shorter side first: factor 800 / 427
        ((640, 427), (1333, 800), (1199, 800)),
        ((300, 1000), (1333, 800), (400, 1333)),  # longer side first: 1.333 * 300 = 399.9
        ((480, 640), (320, 240), (240, 320)),
        ((480, 640), (240, 320), (240, 320)),  # the order of the bounds does not matter
        ((1, 1), (7, 5), (5, 5)),
    ],
)
def test_kept_ratios_fit_both_bounds(size: tuple, scale: tuple, expected: tuple) -> None:
    assert fit_size(size, scale) == expected


def test_boxes_follow_the_rounded_size_of_each_side(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = make_sample(height=10, width=20, boxes=[[2, 1, 6, 5], [0, 0, 30, 12]])
    out = Resize(scale=(33, 15), keep_ratio=True)(sample, rng)
    # factor min(33 / 20, 15 / 10) = 1.5: 15 x 30
    assert out.image.shape == (15, 30, 3)
    assert out.scale == (1.5, 1.5)
    np.testing.assert_array_equal(out.boxes, [[3, 1.5, 9, 7.5], [0, 0, 30, 15]])
    np.testing.assert_array_equal(out.image, cv2.resize(sample.image, (30, 15), interpolation=cv2.INTER_LINEAR))
    np.testing.assert_array_equal(sample.boxes[0], [2, 1, 6, 5])


def test_scales_accumulate_and_differ_by_axis(make_sample: MakeSample, rng: np.random.Generator) -> None:
    out = Resize(scale=(10, 20))(Resize(scale_factor=2)(make_sample(), rng), rng)
    assert out.image.shape == (20, 10, 3)
    assert out.scale == (0.5, 2.0)
    np.testing.assert_array_equal(out.boxes, [[1, 2, 3, 10], [5, 8, 9, 18]])
    assert out.file_size == (10, 20)


def test_borders_are_left_alone_on_request(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = make_sample(boxes=[[-2, -1, 30, 12]])
    out = Resize(scale=(20, 10), clip_object_border=False)(sample, rng)
    np.testing.assert_array_equal(out.boxes, sample.boxes)


def test_a_range_of_ratios_and_of_scales_is_kept(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = make_sample(height=10, width=20)
    by_ratio = {RandomResize(scale=(20, 10), ratio_range=(0.5, 2.0))(sample, rng).image.shape for _ in range(60)}
    assert min(s[1] for s in by_ratio) >= 10
    assert max(s[1] for s in by_ratio) <= 40
    assert len(by_ratio) > 20
    by_scale = {RandomResize(scale=[(20, 8), (30, 12)])(sample, rng).image.shape[:2] for _ in range(200)}
    assert by_scale == {(h, w) for h in range(8, 13) for w in range(20, 31)} & by_scale
    assert {h for h, _ in by_scale} == set(range(8, 13))
    assert {w for _, w in by_scale} == set(range(20, 31))
    chosen = {RandomChoiceResize(scales=[(20, 8), 5])(sample, rng).image.shape[:2] for _ in range(20)}
    assert chosen == {(8, 20), (5, 5)}


@pytest.mark.parametrize(
    ("direction", "boxes"),
    [
        ("horizontal", [[14, 1, 18, 5], [2, 4, 10, 9]]),
        ("vertical", [[2, 5, 6, 9], [10, 1, 18, 6]]),
        ("diagonal", [[14, 5, 18, 9], [2, 1, 10, 6]]),
    ],
)
def test_flips_move_boxes_pixels_and_masks(
    make_sample: MakeSample, rng: np.random.Generator, direction: str, boxes: list
) -> None:
    sample = make_sample(masks=SQUARES)
    out = RandomFlip(prob=1.0, direction=direction)(sample, rng)
    np.testing.assert_array_equal(out.boxes, boxes)
    assert out.flip == direction
    again = RandomFlip(prob=1.0, direction=direction)(out, rng)
    np.testing.assert_array_equal(again.image, sample.image)
    np.testing.assert_array_equal(again.boxes, sample.boxes)
    np.testing.assert_array_equal(again.masks[1][0], SQUARES[1][0])


def test_flips_come_as_often_as_asked(make_sample: MakeSample) -> None:
    flip = RandomFlip(prob=[0.2, 0.3], direction=["horizontal", "vertical"])
    rng = np.random.default_rng(0)
    drawn = [flip(make_sample(), rng).flip for _ in range(1000)]
    # Three standard deviations of a binomial of 1000 are at most 3 * sqrt(1000 * 0.25) = 47.
    assert abs(drawn.count("horizontal") - 200) < 47
    assert abs(drawn.count("vertical") - 300) < 47
    assert drawn.count("diagonal") == 0
    assert RandomFlip(prob=0.0)(make_sample(), rng).flip is None


def test_padding_is_at_the_right_and_bottom(make_sample: MakeSample, rng: np.random.Generator) -> None:
    bitmaps = np.ones((2, 10, 20), np.uint8)
    out = Pad(size_divisor=16, pad_val=dict(img=(1, 2, 3), masks=0))(make_sample(masks=bitmaps), rng)
    assert out.image.shape == (16, 32, 3)
    np.testing.assert_array_equal(out.image[15, 31], [1, 2, 3])
    assert out.masks.shape == (2, 16, 32)
    assert out.masks.sum() == 400
    assert Pad(size=(30, 12))(make_sample(), rng).image.shape == (12, 30, 3)
    assert Pad(size=(5, 5))(make_sample(), rng).image.shape == (10, 20, 3)
    assert Pad(pad_to_square=True, pad_val=114)(make_sample(), rng).image.shape == (20, 20, 3)
    assert Pad(pad_to_square=True, size_divisor=16)(make_sample(), rng).image.shape == (32, 32, 3)


def test_a_crop_keeps_what_it_touches(make_sample: MakeSample) -> None:
    # The window has the image's height and a width of 9, so x0 lies in 0..11.
    for seed in range(20):
        sample = make_sample(masks=SQUARES)
        out = RandomCrop(crop_size=(9, 10))(sample, np.random.default_rng(seed))
        if out is None:
            continue
        x0 = next(x for x in range(12) if (sample.image[:, x : x + 9] == out.image).all())
        touched = [i for i in range(2) if sample.boxes[i, 0] < x0 + 9 and sample.boxes[i, 2] > x0]
        np.testing.assert_array_equal(out.labels, touched)
        expected = np.clip(sample.boxes[touched] - [x0, 0, x0, 0], 0, [9, 10, 9, 10])
        np.testing.assert_array_equal(out.boxes, expected)
        recomputed = RandomCrop(crop_size=(9, 10), recompute_bbox=True)(sample, np.random.default_rng(seed))
        np.testing.assert_array_equal(recomputed.boxes, expected)


def test_a_crop_without_objects_asks_for_another_image(make_sample: MakeSample, rng: np.random.Generator) -> None:
    empty = make_sample(boxes=[])
    assert RandomCrop(crop_size=(5, 5))(empty, rng) is None
    kept = RandomCrop(crop_size=(5, 5), allow_negative_crop=True)(empty, rng)
    assert kept.image.shape == (5, 5, 3)
    assert kept.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("options", "heights", "widths"),
    [
        (dict(crop_size=(8, 6)), {6}, {8}),
        (dict(crop_size=(50, 6)), {6}, {20}),
        (dict(crop_size=(4, 6), crop_type="absolute_range"), {4, 5, 6}, {4, 5, 6}),
        (dict(crop_size=(0.5, 0.25), crop_type="relative"), {3}, {10}),  # 10 * 0.25 + 0.5 = 3
        (dict(crop_size=(1.0, 0.9), crop_type="relative_range"), {10}, {18, 19, 20}),
    ],
)
def test_crop_sizes_of_every_type(
    make_sample: MakeSample, rng: np.random.Generator, options: dict, heights: set, widths: set
) -> None:
    crop = RandomCrop(**options, allow_negative_crop=True)
    shapes = {crop(make_sample(), rng).image.shape[:2] for _ in range(80)}
    assert {h for h, _ in shapes} == heights
    assert {w for _, w in shapes} == widths


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (Resize, dict(), "needs scale or scale_factor"),
        (Resize, dict(scale=(3, 4), scale_factor=2), "needs scale or scale_factor"),
        (Resize, dict(scale=(3, 4, 5)), "scale must be"),
        (Resize, dict(scale=(3, 4), interpolation="linear"), "interpolation must be one of nearest, bilinear"),
        (Resize, dict(scale=(3, 4), backend="pillow"), "backend must be 'cv2'"),
        (RandomResize, dict(scale=(3, 4)), "ratio_range"),
        (RandomResize, dict(scale=[(3, 4), (4, 5), (5, 6)]), "two of them"),
        (RandomChoiceResize, dict(scales=[]), "scales must not be empty"),
        (RandomFlip, dict(prob=1.5), "prob must lie in"),
        (RandomFlip, dict(prob=0.5, direction="left"), "direction must be horizontal"),
        (RandomFlip, dict(prob=[0.5], direction=["horizontal", "vertical"]), "1 values of prob for 2 directions"),
        (Pad, dict(), "Pad needs size"),
        (Pad, dict(size=(3, 4), size_divisor=2), "not both"),
        (RandomCrop, dict(crop_size=(2, 3), crop_type="relative"), "at most 1"),
        (RandomCrop, dict(crop_size=(0.5, 3)), "whole pixels"),
        (RandomCrop, dict(crop_size=(5, 3), crop_type="absolute_range"), "least, greatest"),
        (RandomCrop, dict(crop_size=(5, 3), crop_type="some"), "crop_type must be one of"),
    ],
)
def test_wrong_arguments_name_themselves(part: type, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part(**options)


def test_fix_scale_resize_rounds_sides_down(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = make_sample(height=427, width=640)  # 427 * 416 / 640 = 277.55
    assert Resize((416, 416), keep_ratio=True)(sample, rng).image.shape[:2] == (278, 416)
    assert FixScaleResize((416, 416), keep_ratio=True)(sample, rng).image.shape[:2] == (277, 416)
