"""PointAssigner, FoveaAssigner and PriorAssigner by hand."""

import pytest
import torch

from fastdet.models.assigners import (
    DenseScene,
    FoveaAssigner,
    MaxIoUAssigner,
    PointAssigner,
    PriorAssigner,
)
from fastdet.models.coders import DistancePointBBoxCoder
from fastdet.models.priors import AnchorGenerator
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

SIZES = ((2, 3), (1, 2))


def scene(offset: float, candidates: torch.Tensor | None = None, batch: int = 1) -> DenseScene:
    """Cells of 8 and 16 pixels on a map of 24 x 16."""
    priors = AnchorGenerator([8, 16], [1.0], scales=[1.0], center_offset=offset)(SIZES)
    output = DenseOutput(torch.zeros(batch, 8, 1), torch.zeros(batch, 8, 4), SIZES)
    return DenseScene(priors, candidates, DistancePointBBoxCoder(), output)


def test_an_object_takes_its_closest_points_on_the_level_of_its_size() -> None:
    targets = make_targets([[[4, 0, 36, 32], [0, 0, 64, 64]], []])
    found = PointAssigner(scale=4, pos_num=2)(scene(0, batch=2), targets)
    # the first is 32 pixels wide: level of stride 8, centre (20, 16); the second 64: stride 16, centre (32, 32)
    assert found.gt_index.tolist() == [[-1, -1, -1, -1, 0, 0, 1, 1], [-1] * 8]


def test_a_point_keeps_the_object_that_is_closest_in_its_own_size() -> None:
    near_but_small, far_but_large = [0, 0, 16, 16], [4, 4, 36, 36]  # centres (8, 8) and (20, 20)
    targets = make_targets([[near_but_small, far_but_large]])
    found = PointAssigner(scale=4, pos_num=6)(scene(0), targets)
    # at (16, 8) both take the point: sqrt(8^2 + 0) / 16 = 0.5 beside sqrt(4^2 + 12^2) / 32 = 0.4
    assert found.gt_index[0, 5].item() == 1
    assert found.gt_index[0, 4].item() == 0


def test_objects_of_any_size_have_a_level() -> None:
    found = PointAssigner(pos_num=1)(scene(0), make_targets([[[0, 0, 1, 1], [0, 0, 999, 999]]]))
    assert found.gt_index.tolist() == [[0, -1, -1, -1, -1, -1, -1, 1]]


def test_points_outside_the_image_are_not_taken() -> None:
    candidates = torch.ones(1, 8, dtype=torch.bool)
    candidates[0, 0] = False
    found = PointAssigner(pos_num=1)(scene(0, candidates), make_targets([[[0, 0, 9, 8]]]))
    assert found.gt_index.tolist() == [[-2, 0, -1, -1, -1, -1, -1, -1]]


def fovea(sigma: float = 0.5) -> FoveaAssigner:
    return FoveaAssigner([8, 16], [(1, 16), (12, 64)], sigma)


def test_a_cell_in_the_middle_answers_on_every_level_of_the_size() -> None:
    found = fovea()(scene(0.5), make_targets([[[0, 0, 24, 8]]]))  # root of the area 13.9; the middle is 6..18 x 2..6
    # at (12, 4); on level 2 the middle lies above the first row of centres, and is moved there
    assert found.gt_index.tolist() == [[-1, 0, -1, -1, -1, -1, 0, -1]]
    found = fovea()(scene(0.5), make_targets([[[0, 0, 8, 8]]]))
    assert found.gt_index.tolist() == [[0, -1, -1, -1, -1, -1, -1, -1]]


def test_the_smaller_object_wins_and_empty_slots_take_nothing() -> None:
    found = fovea(1.0)(scene(0.5, batch=2), make_targets([[[0, 0, 16, 8], [0, 0, 8, 8]], []]))
    assert found.gt_index.tolist() == [[1, 0, -1, -1, -1, -1, -1, -1], [-1] * 8]


def test_objects_at_the_border_are_moved_to_the_last_cells() -> None:
    found = fovea()(scene(0.5), make_targets([[[26, 2, 38, 14]]]))  # beside the map of 24 pixels
    assert found.gt_index[0, :6].tolist() == [-1, -1, -1, -1, -1, -1]
    found = fovea()(scene(0.5), make_targets([[[20, 0, 36, 8]]]))  # its middle 24..32 covers the cell behind the last
    assert found.gt_index[0, :6].tolist() == [-1, -1, 0, -1, -1, -1]


def test_every_level_needs_a_range() -> None:
    with pytest.raises(ValueError, match="1 scale_ranges"):
        FoveaAssigner([8], [(1, 16)])(scene(0.5), make_targets([[]]))


def test_priors_may_grow_before_they_are_compared() -> None:
    targets = make_targets([[[0, 0, 16, 16]]])
    small = PriorAssigner(MaxIoUAssigner(0.9, 0.9, match_low_quality=False))(scene(0.5), targets)
    assert small.gt_index.tolist() == [[-1] * 6 + [0, -1]]
    grown = PriorAssigner(MaxIoUAssigner(0.9, 0.9, match_low_quality=False), scale=2)
    assert grown(scene(1.0), targets).gt_index.tolist() == [[0] + [-1] * 7]
