"""Heatmaps of grid points, there and back."""

import math

import pytest
import torch

from fastdet.models.criteria import GridCriterion
from fastdet.models.grid import boxes_of_heatmaps, region_corners
from fastdet.models.losses import BinaryCrossEntropyLoss

# A map of 8 x 8 cells over twice the box: from -10 to 30 in x and y, 5 pixels a cell.
ROI = torch.tensor([[[0.0, 0.0, 20.0, 20.0]]])


def heatmaps(roi, box, radius=0):
    return GridCriterion(BinaryCrossEntropyLoss(), pos_radius=radius).heatmaps(roi, torch.tensor([[box]]), 9, 4)


def test_heatmaps_are_halves_of_the_map_at_the_sides_and_in_the_middle() -> None:
    assert region_corners(9, 8) == [(x, y) for x in (0, 2, 4) for y in (0, 2, 4)]
    assert region_corners(4, 56) == [(0, 0), (0, 28), (28, 0), (28, 28)]


def test_each_point_of_the_object_is_one_cell_of_its_heatmap() -> None:
    """Columns are at 2, 12 and 22 pixels: cells 2, 4 and 6 of the map; rows at 1, 6 and 11: cells 2, 3 and 4."""
    found = heatmaps(ROI, [2.0, 1.0, 22.0, 11.0])[0, 0]
    assert found.sum((1, 2)).tolist() == [1] * 9
    cells = [divmod(int(point.flatten().argmax()), 4)[::-1] for point in found]
    assert cells == [(x, y) for x in (2, 4 - 2, 6 - 4) for y in (2, 3 - 2, 4 - 4)]


def test_points_have_circles_as_far_as_they_are_in_the_heatmap() -> None:
    found = heatmaps(ROI, [-10.0, -10.0, 10.0, 10.0], radius=1)[0, 0, 0]
    assert found.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0] * 4, [0] * 4]


def test_small_boxes_and_empty_slots_have_no_points() -> None:
    assert heatmaps(torch.tensor([[[0.0, 0.0, 1.5, 20.0]]]), [0.0, 0.0, 1.0, 20.0]).sum() == 0
    assert heatmaps(torch.zeros(1, 1, 4), [0.0, 0.0, 0.0, 0.0]).sum() == 0


def test_a_box_is_found_again_up_to_half_a_cell() -> None:
    logits = torch.logit(heatmaps(ROI, [2.0, 1.0, 22.0, 11.0]), eps=1e-4)
    # the middles of cells 2, 6 in x, 2 and 4 in y
    torch.testing.assert_close(boxes_of_heatmaps(logits, ROI), torch.tensor([[[2.5, 2.5, 22.5, 12.5]]]))


def test_surer_points_count_more() -> None:
    logits = torch.full((9, 4, 4), -9.0)
    logits[:, 0, 0] = 0.0
    logits[0, 0, 0], logits[0, 0, 3] = -9.0, math.log(3)  # the left side: 0.75 at cell 3, 0.5 twice at cell 0
    box = boxes_of_heatmaps(logits, ROI[0, 0])
    assert box[0].item() == pytest.approx((0.75 * 7.5 + 2 * 0.5 * -7.5) / 1.75, rel=1e-3)


def test_the_loss_is_the_mean_over_all_cells_of_the_chosen() -> None:
    rois, boxes = ROI.expand(1, 2, 4), ROI.expand(1, 2, 4)
    logits = torch.zeros(1, 2, 9, 4, 4)
    criterion = GridCriterion(BinaryCrossEntropyLoss(loss_weight=15))
    loss = criterion(logits, logits, rois, boxes, torch.tensor([[True, False]]))["loss_grid"]
    assert loss.item() == pytest.approx(2 * 15 * math.log(2))
    assert criterion(logits, logits, rois, boxes, torch.zeros(1, 2, dtype=torch.bool))["loss_grid"].item() == 0
