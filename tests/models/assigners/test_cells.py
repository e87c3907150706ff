"""YOLOv3's parts by hand: anchors, assignment, coder, losses, post-processing."""

import math

import pytest
import torch

from fastdet.models.assigners import Assignment, DenseScene, GridAssigner
from fastdet.models.coders import YOLOBBoxCoder
from fastdet.models.criteria import CellCriterion
from fastdet.models.losses import BinaryCrossEntropyLoss, MSELoss
from fastdet.models.postprocess import CellPostprocess, DensePostprocess
from fastdet.models.priors import YOLOAnchorGenerator
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

LN2 = math.log(2)
PRIORS = YOLOAnchorGenerator([8], [[(8, 8), (16, 8)]])  # two anchors a cell
STRIDES = [8]


def scene(said: torch.Tensor | None = None, batch: int = 1) -> DenseScene:
    """Two cells."""
    said = torch.zeros(batch, 4, 4) if said is None else said
    output = DenseOutput(torch.zeros(batch, 4, 2), said, ((1, 2),), torch.zeros(batch, 4))
    return DenseScene(PRIORS([(1, 2)]), None, YOLOBBoxCoder(), output)


def test_anchors_lie_around_the_cells_centres() -> None:
    assert PRIORS([(1, 2)]).tolist() == [[0, 0, 8, 8], [-4, 0, 12, 8], [8, 0, 16, 8], [4, 0, 20, 8]]
    assert PRIORS.valid([(1, 2)], torch.tensor([[8, 8]])).tolist() == [[True, True, False, False]]
    with pytest.raises(ValueError, match="same number"):
        YOLOAnchorGenerator([8, 16], [[(1, 1)], [(1, 1), (2, 2)]])


def test_the_best_anchor_of_the_objects_cell_answers() -> None:
    targets = make_targets([[[-2, 0, 9, 8]], []])  # centre (3.5, 4); IoU 8/11 with anchor 0, 11/16 with 1, 1/18, 5/22
    assert GridAssigner(STRIDES, 0.7, 0.3)(scene(batch=2), targets).gt_index.tolist() == [[0, -2, -1, -1], [-1] * 4]
    assert GridAssigner(STRIDES, 0.5, 0.3)(scene(batch=2), targets).gt_index.tolist()[0] == [0, 0, -1, -1]
    assert GridAssigner(STRIDES, 0.9, 0.1)(scene(batch=2), targets).gt_index.tolist()[0] == [0, -2, -1, -2]
    wide = GridAssigner(STRIDES, 0.9, (0.1, 0.3))(scene(batch=2), targets)
    assert wide.gt_index.tolist()[0] == [0, -2, -2, -1]


def test_an_object_that_overlaps_too_little_has_no_anchor() -> None:
    targets = make_targets([[[3, 3, 5, 5]]])
    assert GridAssigner(STRIDES, 0.5, 0.5, min_pos_iou=0.1)(scene(), targets).gt_index.tolist() == [[-1] * 4]
    single = GridAssigner(STRIDES, 0.5, 0.5, gt_max_assign_all=False)(scene(), targets)
    assert single.gt_index.tolist() == [[0, -1, -1, -1]]


def test_boxes_are_shifts_and_ratios() -> None:
    coder, box = YOLOBBoxCoder(), torch.tensor([2.0, 1, 10, 5])
    deltas = coder.encode(torch.tensor([0.0, 0, 8, 8]), box)
    assert deltas.tolist() == pytest.approx([2, -1, 0, -LN2])
    assert coder.decode(torch.tensor([0.0, 0, 8, 8]), deltas).tolist() == pytest.approx(box.tolist())


def test_losses_are_sums_over_what_counts() -> None:
    binary = BinaryCrossEntropyLoss(reduction="sum")
    criterion = CellCriterion(STRIDES, binary, binary, binary, MSELoss(reduction="sum"), one_hot_smoother=0.2)
    assigned = Assignment(torch.tensor([[0, -2, -1, -1]]), torch.zeros(1, 4))
    losses = criterion(scene(), assigned, make_targets([[[0, 0, 16, 8]]], [[1]]))
    assert losses["loss_conf"].item() == pytest.approx(3 * LN2)
    assert losses["loss_cls"].item() == pytest.approx(2 * LN2)
    assert losses["loss_xy"].item() == pytest.approx(2 * LN2, rel=1e-4)
    assert losses["loss_wh"].item() == pytest.approx(LN2**2)


def test_detections_are_the_best_of_all_levels_with_some_objectness() -> None:
    given = scene()
    logits = torch.tensor([[[2.0, -9], [1, -9], [3, -9], [0, -9]]])
    sure = torch.tensor([[50.0, 50, -50, 50]])
    output = given.output._replace(cls_logits=logits, quality=sure)
    postprocess = CellPostprocess(STRIDES, DensePostprocess(4, 0.99, nms_pre=2, score_thr=0.1), conf_thr=0.01)
    found = postprocess(output, given.priors, given.coder, torch.tensor([[8, 16]]))
    assert found.count.tolist() == [2]
    assert found.boxes[0, :2].tolist() == [[0, 0, 8, 8], [-4, 0, 12, 8]]
    assert found.scores[0, 0].item() == pytest.approx(1 / (1 + math.exp(-2)))
