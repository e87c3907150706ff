"""SSD's enlarging and cropping, with numbers worked out by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fastdet.data.transforms import Expand, MinIoURandomCrop
from fastdet.data.transforms.ssd import window_ious
from fastdet.structures import Sample

MakeSample = Callable[..., Sample]


def test_a_canvas_has_the_mean_in_bgr_and_moves_everything(make_sample: MakeSample) -> None:
    masks = np.zeros((1, 10, 20), np.uint8)
    masks[0, 1:5, 2:6] = 1
    sample = replace(
        make_sample(boxes=[[2, 1, 6, 5]], masks=masks),
        semantic=np.ones((10, 20), np.uint8), proposals=np.array([[0, 0, 3, 3]], np.float32),
    )  # fmt: skip
    out = Expand(mean=(30.9, 20, 10)).place(sample, (25, 50), left=7, top=4)
    assert out.image.shape == (25, 50, 3)
    np.testing.assert_array_equal(out.image[0, 0], [10, 20, 30])  # RGB turned round, cut off to whole values
    np.testing.assert_array_equal(out.image[4:14, 7:27], sample.image)
    np.testing.assert_array_equal(out.boxes, [[9, 5, 13, 9]])
    np.testing.assert_array_equal(out.proposals, [[7, 4, 10, 7]])
    assert out.masks[0, 5:9, 9:13].all()
    assert out.masks.sum() == 16
    assert (out.semantic == 255).sum() == 25 * 50 - 10 * 20


def test_a_fixed_ratio_gives_its_size(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = make_sample()
    out = Expand(ratio_range=(2.5, 2.5), prob=1.0)(sample, rng)
    assert out.image.shape == (25, 50, 3)
    moved = out.boxes - sample.boxes
    assert (moved == moved[0]).all()
    assert 0 <= moved[0, 0] < 30
    assert 0 <= moved[0, 1] < 15
    shapes = {Expand(prob=0.5)(sample, rng).image.shape == sample.image.shape for _ in range(20)}
    assert shapes == {True, False}


def test_overlaps_with_a_window() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [30, 30, 40, 40]], np.float32)
    # with [0, 0, 10, 20]: 100 / 200; 50 / 250; none
    np.testing.assert_allclose(window_ious(boxes, (0, 0, 10, 20)), [0.5, 0.2, 0.0], rtol=1e-6)


def test_a_window_keeps_objects_by_their_centre(make_sample: MakeSample) -> None:
    # boxes (2, 1, 6, 5) with centre (4, 3) and (10, 4, 18, 9) with centre (14, 6.5)
    part = MinIoURandomCrop()
    out = part.cut(make_sample(), (3, 2, 13, 10), demand=0.0)
    assert out is not None
    assert out.image.shape == (8, 10, 3)
    np.testing.assert_array_equal(out.boxes, [[0, 0, 3, 3]])  # cut off at the window; the other's centre is outside
    np.testing.assert_array_equal(out.labels, [0])
    # least overlap: 9 / (80 + 16 - 9) with the first, 3 * 5 / (80 + 40 - 15) with the second
    assert part.cut(make_sample(), (3, 2, 13, 10), demand=0.1) is not None
    assert part.cut(make_sample(), (3, 2, 13, 10), demand=0.104) is None
    assert part.cut(make_sample(), (7, 6, 9, 10), demand=0.0) is None  # no centre
    unclipped = MinIoURandomCrop(bbox_clip_border=False).cut(make_sample(), (3, 2, 13, 10), demand=0.0)
    assert unclipped is not None
    np.testing.assert_array_equal(unclipped.boxes, [[-1, -1, 3, 3]])


def test_drawn_windows_meet_their_bounds(make_sample: MakeSample, rng: np.random.Generator) -> None:
    sample = make_sample(height=40, width=60, boxes=[[20, 10, 40, 30]])
    outs = [MinIoURandomCrop(min_ious=(0.3,))(sample, rng) for _ in range(60)]
    sides = np.array([out.image.shape[:2] for out in outs])
    assert (sides >= [11, 17]).all()
    assert (sides <= [40, 60]).all()
    assert len(np.unique(sides, axis=0)) > 20
    assert all(len(out.boxes) == 1 for out in outs)
    assert (sides == [40, 60]).all(axis=1).any()  # the demand that changes nothing


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="ratio_range"):
        Expand(ratio_range=(0.5, 2))
    with pytest.raises(ValueError, match="min_crop_size"):
        MinIoURandomCrop(min_crop_size=0)
