"""RegressRangeAssigner and ATSSAssigner: hand-made scenes."""

import pytest
import torch

from fastdet.models import geometry
from fastdet.models.assigners import BACKGROUND, IGNORE, ATSSAssigner, DenseScene, RegressRangeAssigner
from fastdet.models.coders import DistancePointBBoxCoder
from fastdet.models.priors import AnchorGenerator
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

SIZES = ((4, 4), (2, 2))
POINTS = AnchorGenerator([8, 16], [1.0], scales=[1.0], center_offset=0.5)


def scene(batch: int = 1, candidates: torch.Tensor | None = None) -> DenseScene:
    """20 cells: 4 x 4 of 8 pixels, then 2 x 2 of 16."""
    output = DenseOutput(torch.zeros(batch, 20, 2), torch.zeros(batch, 20, 4), SIZES)
    return DenseScene(POINTS(SIZES), candidates, DistancePointBBoxCoder(), output)


def positives(gt_index: torch.Tensor) -> dict[int, int]:
    return {i: v for i, v in enumerate(gt_index.tolist()) if v >= 0}


def test_points_answer_for_the_smallest_object_around_them() -> None:
    # points of the first level stand at 4, 12, 20 and 28; the second object lies in the first one
    targets = make_targets([[[0, 0, 20, 20], [2, 2, 14, 10]], []])
    found = RegressRangeAssigner([(-1, 64), (64, 128)])(scene(2), targets)
    assert positives(found.gt_index[0]) == {0: 1, 1: 1, 4: 0, 5: 0}
    assert (found.gt_index[1] == BACKGROUND).all()


def test_levels_look_at_objects_whose_farthest_side_is_in_their_range() -> None:
    targets = make_targets([[[0, 0, 20, 20]]])
    found = RegressRangeAssigner([(-1, 8), (8, 14)])(scene(), targets)
    assert positives(found.gt_index[0]) == {16: 0}  # (8, 8) has 12 to go, (12, 12) of the first level as well
    found = RegressRangeAssigner([(-1, 12), (12, 14)])(scene(), targets)
    assert positives(found.gt_index[0]) == {5: 0, 16: 0}  # borders of ranges belong to both


def test_the_centre_region_is_measured_in_strides() -> None:
    targets = make_targets([[[0, 0, 32, 32]]])
    found = RegressRangeAssigner([(-1, 64), (64, 128)], center_radius=1.0)(scene(), targets)
    assert positives(found.gt_index[0]) == {5: 0, 6: 0, 9: 0, 10: 0}


def test_ranges_must_fit_the_levels() -> None:
    with pytest.raises(ValueError, match="1 regress_ranges for 2 levels"):
        RegressRangeAssigner([(-1, 64)])(scene(), make_targets([[]]))


@pytest.mark.parametrize("assigner", [RegressRangeAssigner([(-1, 64), (64, 128)]), ATSSAssigner(3)])
def test_slices_of_objects_give_the_same_assignment(assigner: object, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(2, 7, 2, generator=generator) * 20
    boxes = torch.cat((corners, corners + 4 + 10 * torch.rand(2, 7, 2, generator=generator)), -1)
    targets = make_targets(boxes.tolist(), slots=8)
    whole = assigner(scene(2), targets)  # type: ignore[operator]
    monkeypatch.setattr(geometry, "PAIRS_AT_ONCE", 1)
    sliced = assigner(scene(2), targets)  # type: ignore[operator]
    assert torch.equal(whole.gt_index, sliced.gt_index)
    assert torch.equal(whole.overlaps, sliced.overlaps)
    assert (whole.gt_index >= 0).any()


def test_atss_takes_candidates_above_mean_plus_deviation() -> None:
    # candidates: cell 0 (IoU 1), cell 1 of the first level (IoU 0), cell 16 of the second (IoU 64 / 256)
    targets = make_targets([[[0, 0, 8, 8]]])
    found = ATSSAssigner(2)(scene(), targets)
    assert positives(found.gt_index[0]) == {0: 0}
    assert found.overlaps[0, 0].item() == pytest.approx(1)
    assert found.overlaps[0, 1:].abs().sum() == 0


def test_atss_gives_a_prior_to_the_object_that_it_overlaps_most() -> None:
    targets = make_targets([[[0, 0, 8, 9], [0, 0, 8, 8.5], [100, 100, 101, 101]]])
    found = ATSSAssigner(2)(scene(), targets)
    assert found.gt_index[0, 0].item() == 1


def test_atss_leaves_out_priors_in_padding_and_in_ignored_objects() -> None:
    candidates = torch.ones(1, 20, dtype=torch.bool)
    candidates[0, 0] = False
    targets = make_targets([[[0, 0, 8, 8]]], ignored=[[[24, 24, 32, 32]]])
    found = ATSSAssigner(9, ignore_iof_thr=0.5)(scene(candidates=candidates), targets)
    assert found.gt_index[0, 0].item() == IGNORE
    assert found.gt_index[0, 15].item() == IGNORE
    assert found.gt_index[0, 14].item() == BACKGROUND


@pytest.mark.parametrize("assigner", [RegressRangeAssigner([(-1, 64), (64, 128)]), ATSSAssigner(3)])
def test_images_without_objects_are_background(assigner: object) -> None:
    for targets in (make_targets([[]]), make_targets([[]], slots=0)):
        assert (assigner(scene(), targets).gt_index == BACKGROUND).all()  # type: ignore[operator]
