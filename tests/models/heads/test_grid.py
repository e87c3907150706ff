"""The grid head, and the stage around it."""

import pytest
import torch

from fastdet.models.heads.grid import GridHead
from fastdet.models.stages import GridStage


def test_points_are_mixed_with_their_neighbours_twice() -> None:
    head = GridHead(num_convs=1, in_channels=4, point_feat_channels=2)
    assert head.neighbours[0] == (1, 3)
    assert head.neighbours[4] == (1, 3, 5, 7)
    assert sum(map(len, head.neighbours)) == 24
    assert head.state_dict()["forder_trans.4.3.0.weight"].shape == (2, 1, 5, 5)
    x = torch.randn(3, 4, 6, 6)
    fused, unfused = head.train()(x)
    assert fused.shape == unfused.shape == (3, 9, 12, 12)
    assert not torch.equal(fused, unfused)
    fused, unfused = head.eval()(x)
    assert unfused is fused


def test_grids_that_are_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="square number from 4 upwards, not 8"):
        GridHead(grid_points=8)


def test_no_more_positives_are_chosen_than_wanted_and_boxes_stay_inside() -> None:
    stage = GridStage(None, max_num_grid=3)  # type: ignore[arg-type]
    positive = torch.tensor([[True, False, True, True], [True, True, False, False]])
    chosen = stage._chosen(positive, torch.Generator().manual_seed(0))
    assert chosen.sum() == 3
    assert not (chosen & ~positive).any()
    stage.max_num_grid = 100
    assert torch.equal(stage._chosen(positive, None), positive)
    rois = torch.tensor([[[0.0, 0.0, 100.0, 50.0]]]).expand(1, 50, 4)
    moved = stage._jittered(rois, torch.tensor([[40, 90]]), torch.Generator().manual_seed(0))
    assert moved.min() == 0
    assert moved[..., 0].max() <= 100 * (0.15 + 0.075)
    assert (moved[..., 2].max(), moved[..., 3].max()) == (89, 39)
