"""Mosaics, mixtures, affine maps and pasted objects, with numbers worked out by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fastdet.data.transforms import CachedMixUp, CachedMosaic, CopyPaste, MixUp, Mosaic, RandomAffine, YOLOXHSVRandomAug
from fastdet.data.transforms.affine import affine_matrix, warp_boxes
from fastdet.data.transforms.color import shift_hsv
from fastdet.structures import Sample

MakeSample = Callable[..., Sample]


def plain(
    make_sample: MakeSample, value: int, size: tuple[int, int], boxes: list, masks: np.ndarray | None = None
) -> Sample:
    """A sample of one colour."""
    sample = make_sample(height=size[0], width=size[1], boxes=boxes, masks=masks)
    return replace(sample, image=np.full_like(sample.image, value))


def test_a_mosaic_lays_four_images_around_a_point(make_sample: MakeSample) -> None:
    # img_scale (20, 10): canvas 20 x 40 (H x W). The images are 10 x 20, 5 x 10 (doubled), 20 x 20 (halved), 10 x 20.
    samples = [
        plain(make_sample, 10, (10, 20), [[0, 0, 20, 10]]),
        plain(make_sample, 20, (5, 10), [[1, 1, 4, 3]]),
        plain(make_sample, 30, (20, 20), [[2, 4, 10, 20]]),
        plain(make_sample, 40, (10, 20), [[15, 2, 20, 4]]),
    ]
    out = Mosaic(img_scale=(20, 10)).compose(samples, center=(12, 8))
    assert out.image.shape == (20, 40, 3)
    picture = out.image[..., 0]
    assert (picture[0:8, 0:12] == 10).all()  # 12 x 8 of 20 x 10 pixels fit above the point to the left
    assert (picture[0:8, 12:32] == 20).all()
    assert (picture[8:18, 2:12] == 30).all()
    assert (picture[8:18, 12:32] == 40).all()
    assert (picture == 114).sum() == 20 * 40 - (8 * 12 + 8 * 20 + 10 * 10 + 10 * 20)
    np.testing.assert_array_equal(
        out.boxes,
        [
            [0, 0, 12, 8],  # 0 0 20 10 moved by (-8, -2), clipped
            [14, 0, 20, 4],  # doubled: 2 2 8 6, moved by (12, -2)
            [3, 10, 7, 18],  # halved: 1 2 5 10, moved by (2, 8)
            [27, 10, 32, 12],  # moved by (12, 8)
        ],
    )
    np.testing.assert_array_equal(out.labels, [0, 0, 0, 0])


def test_a_mosaic_drops_what_lies_outside_the_canvas_and_keeps_masks(make_sample: MakeSample) -> None:
    masks = np.zeros((2, 10, 20), np.uint8)
    masks[0, 0:2, 0:3] = 1
    masks[1, 8:10, 15:20] = 1
    sample = plain(make_sample, 1, (10, 20), [[0, 0, 3, 2], [15, 8, 20, 10]], masks)
    out = CachedMosaic(img_scale=(20, 10)).compose([sample] * 4, center=(10, 5))
    # Of the first image the box at its upper left corner lies at (-10, -5).
    np.testing.assert_array_equal(out.boxes[0], [5, 3, 10, 5])
    assert len(out.boxes) == len(out.masks) == 5
    assert out.masks[0, 3:5, 5:10].all()
    assert out.masks[0].sum() == 10


def test_a_mixture_is_the_mean_cut_off_to_whole_values(make_sample: MakeSample) -> None:
    sample = plain(make_sample, 11, (10, 20), [[2, 1, 6, 5]])
    other = plain(make_sample, 20, (5, 5), [[1, 1, 3, 4], [4, 0, 5, 1]])
    part = MixUp(img_scale=(20, 10))
    # Fitted: 10 x 10 on a canvas of 10 x 20, scaled by 2: the image covers 20 x 20 of 20 x 40.
    canvas, moved = part.prepare(other, 2.0, is_flipped=False)
    assert canvas.shape == (20, 40, 3)
    np.testing.assert_array_equal(moved.boxes, [[4, 4, 12, 16], [16, 0, 20, 4]])
    out = part.blend(sample, canvas, moved, left=8, top=6)
    assert (out.image[:, :8] == 15).all()  # (11 + 20) / 2 = 15.5
    assert (out.image[:, 16:] == 62).all()  # (11 + 114) / 2 = 62.5
    np.testing.assert_array_equal(out.boxes, [[2, 1, 6, 5], [0, 0, 4, 10]])  # 4 4 12 16 by (-8, -6); the other is out
    mirrored = part.prepare(other, 2.0, is_flipped=True)[1]
    np.testing.assert_array_equal(mirrored.boxes, [[28, 4, 36, 16], [20, 0, 24, 4]])


def test_a_mixture_needs_objects(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = make_sample()
    drawn = []

    def draw() -> Sample:
        drawn.append(1)
        return make_sample(boxes=[])

    assert MixUp(max_iters=4).mix(sample, draw, rng) is sample
    assert len(drawn) == 4
    assert CachedMixUp(prob=0.0).mix(sample, draw, rng) is sample


def test_an_affine_map_scales_rotates_shears_and_shifts(make_sample: MakeSample) -> None:
    matrix = affine_matrix(90, 2, (0, 0), (30, 5))
    # (x, y) -> (-2 y + 30, 2 x + 5)
    np.testing.assert_allclose(matrix @ [3, 4, 1], [22, 11, 1], atol=1e-5)
    np.testing.assert_allclose(warp_boxes(np.array([[2, 1, 6, 5]], np.float32), matrix), [[20, 9, 28, 17]], atol=1e-5)
    sheared = affine_matrix(0, 1, (45, 0), (0, 0))
    np.testing.assert_allclose(sheared @ [3, 4, 1], [7, 4, 1], atol=1e-5)


def test_a_shift_moves_pixels_and_drops_what_leaves(make_sample: MakeSample) -> None:
    sample = make_sample()
    out = RandomAffine(border=(-2, -1)).warp(sample, affine_matrix(0, 1, (0, 0), (-7, 2)), (8, 16))
    np.testing.assert_array_equal(out.image[2:8, 0:13], sample.image[0:6, 7:20])
    np.testing.assert_array_equal(out.image[:2], np.full((2, 16, 3), 114))
    np.testing.assert_array_equal(out.boxes, [[3, 6, 11, 8]])  # the other lies at x < 0
    np.testing.assert_array_equal(out.labels, [1])


def test_an_affine_map_after_a_mosaic_shows_its_middle(make_sample: MakeSample, rng: np.random.Generator) -> None:
    out = RandomAffine(border=(-5, -2))(make_sample(height=20, width=40), rng)
    assert out.image.shape == (16, 30, 3)
    with pytest.raises(ValueError, match="boxes alone"):
        RandomAffine()(make_sample(masks=np.zeros((2, 10, 20), np.uint8)), rng)


def test_shifts_of_colour_go_round_and_are_cut_off(make_sample: MakeSample, rng: np.random.Generator) -> None:
    red = np.full((1, 1, 3), (0, 0, 255), np.uint8)  # hue 0, saturation 255, value 255
    np.testing.assert_array_equal(shift_hsv(red, np.array([60, 10, 0], np.int16))[0, 0], [0, 255, 0])  # hue 120 degrees
    np.testing.assert_array_equal(shift_hsv(red, np.array([-60, 0, -155], np.int16))[0, 0], [100, 0, 0])
    sample = make_sample()
    outs = [YOLOXHSVRandomAug()(sample, rng).image for _ in range(20)]
    assert len({out.tobytes() for out in outs}) > 10
    assert all(out.shape == sample.image.shape and out.dtype == np.uint8 for out in outs)


def test_pasted_objects_cover_those_below(make_sample: MakeSample, rng: np.random.Generator) -> None:
    below = np.zeros((3, 10, 20), np.uint8)
    below[0, 0:4, 0:4] = 1
    below[1, 0:4, 4:10] = 1
    below[2, 6:10, 0:20] = 1
    above = np.zeros((1, 10, 20), np.uint8)
    above[0, 0:5, 2:10] = 1
    sample = plain(make_sample, 1, (10, 20), [[0, 0, 4, 4], [4, 0, 10, 4], [0, 6, 20, 10]], below)
    other = plain(make_sample, 9, (10, 20), [[2, 0, 10, 5]], above)
    out = CopyPaste(bbox_occluded_thr=1, mask_occluded_thr=10).paste(sample, other)
    # Of the first 8 pixels are left in a box that moved by 2, of the second none; the third is whole.
    np.testing.assert_array_equal(out.boxes, [[0, 6, 20, 10], [2, 0, 10, 5]])
    np.testing.assert_array_equal(out.labels, [2, 0])
    assert (out.image[..., 0] == np.where(above[0], 9, 1)).all()
    kept = CopyPaste(bbox_occluded_thr=2, mask_occluded_thr=10).paste(sample, other)
    np.testing.assert_array_equal(kept.boxes[0], [0, 0, 2, 4])
    assert kept.masks[0].sum() == 8
    assert kept.image.dtype == np.uint8
    counts = {len(CopyPaste(max_num_pasted=2).mix(sample, lambda: other, rng).boxes) for _ in range(20)}
    assert counts == {3, 4}  # nothing is pasted, or the object, under which all stay by their small changes


def test_boxes_stand_for_masks_on_request(make_sample: MakeSample) -> None:
    sample = plain(make_sample, 1, (10, 20), [[0, 0, 4, 4]])
    other = plain(make_sample, 9, (10, 20), [[10, 5, 12, 8]])
    out = CopyPaste(paste_by_box=True).paste(sample, other)
    assert (out.image == 9).all(axis=2).sum() == 6
    with pytest.raises(ValueError, match="needs masks"):
        CopyPaste().paste(sample, other)
    with pytest.raises(ValueError, match="images of one size"):
        CopyPaste(paste_by_box=True).paste(sample, plain(make_sample, 1, (9, 20), [[0, 0, 4, 4]]))
