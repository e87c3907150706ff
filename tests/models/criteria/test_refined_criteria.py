"""Criteria of heads with two boxes, and of FoveaBox and PAA: hand-computed losses."""

import math

import pytest
import torch
from torch import Tensor

from fastdet.models.assigners import Assignment, DenseScene, MaxIoUAssigner
from fastdet.models.coders import DistancePointBBoxCoder, ExponentialBBoxCoder
from fastdet.models.criteria import (
    PlainCriterion,
    ProbabilisticCriterion,
    RefinedPointsCriterion,
    VarifocalCriterion,
)
from fastdet.models.criteria.mixture import low_costs
from fastdet.models.losses import BinaryCrossEntropyLoss, FocalLoss, L1Loss, SigmoidLoss, VarifocalLoss, iou_loss
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

LN2 = math.log(2)
CELLS = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [16, 0, 24, 8]])
TARGETS = make_targets([[[0, 0, 8, 8]], []], [[1], []])
ASSIGNED = Assignment(torch.tensor([[0, -1, -1], [-1, -1, -2]]), torch.zeros(2, 3))


def scene(
    boxes: Tensor, first: Tensor | None = None, coder: object = None, quality: Tensor | None = None
) -> DenseScene:
    """Zero logits of two classes at three cells of two images."""
    shape = (2, 3, 4)
    first = None if first is None else first.expand(shape)
    output = DenseOutput(torch.zeros(2, 3, 2), boxes.expand(shape), ((1, 3),), quality, None, first)
    return DenseScene(CELLS, None, coder or DistancePointBBoxCoder(), output)  # type: ignore[arg-type]


def test_first_boxes_are_assigned_again_for_the_refined_ones() -> None:
    criterion = RefinedPointsCriterion(
        MaxIoUAssigner(0.5, 0.4, match_low_quality=False), SigmoidLoss(), L1Loss(), L1Loss(), base_scale=2
    )
    # first boxes are twice as wide to the right: cell 0 has an IoU of 1/2; refined ones are 2 pixels off on one side
    first, refined = torch.tensor([4.0, 4, 12, 4]), torch.tensor([4.0, 4, 6, 4])
    losses = criterion(scene(refined, first), ASSIGNED, TARGETS)
    assert losses["loss_pts_init"].item() == pytest.approx(8 / 16 / 2)  # over a unit of 2 strides, two images
    assert losses["loss_pts_refine"].item() == pytest.approx(2 / 16 / 2)
    assert losses["loss_cls"].item() == pytest.approx(6 * 2 * LN2 / 2)  # nothing is left out the second time


def test_the_second_assignment_looks_at_first_boxes() -> None:
    assigner = MaxIoUAssigner(0.5, 0.5, match_low_quality=False)
    criterion = RefinedPointsCriterion(assigner, SigmoidLoss(), L1Loss(), L1Loss())
    far = torch.tensor([0.0, 0, 1, 1])
    losses = criterion(scene(far, far), ASSIGNED, TARGETS)
    assert losses["loss_pts_init"].item() > 0
    assert losses["loss_pts_refine"].item() == 0


def test_varifocal_classes_are_as_sure_as_the_refined_box_overlaps() -> None:
    criterion = VarifocalCriterion(VarifocalLoss(), iou_loss(mode="linear"), iou_loss(mode="linear"))
    first, refined = torch.tensor([4.0, 4, 12, 4]), torch.tensor([4.0, 4, 4, 4])  # IoU 1/2 and 1
    losses = criterion(scene(refined, first), ASSIGNED, TARGETS)
    background = 11 * 0.75 * 0.25 * LN2  # the ignored prior too, as in MMDetection
    assert losses["loss_cls"].item() == pytest.approx(1 * LN2 + background)
    assert losses["loss_bbox"].item() == pytest.approx(0.5 * 0.5)  # the sum of weights is at least 1
    assert losses["loss_bbox_rf"].item() == pytest.approx(0, abs=1e-6)


def test_heads_must_say_first_boxes() -> None:
    losses = SigmoidLoss(), L1Loss(), L1Loss()
    for criterion in (RefinedPointsCriterion(MaxIoUAssigner(0.5, 0.5), *losses), VarifocalCriterion(*losses)):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="first guesses"):
            criterion(scene(torch.zeros(4)), ASSIGNED, TARGETS)


def test_varifocal_loss_weighs_objects_by_quality() -> None:
    logits, target = torch.zeros(1, 2), torch.tensor([[0.5, 0.0]])
    assert VarifocalLoss(reduction="sum")(logits, target).item() == pytest.approx(0.5 * LN2 + 0.75 * 0.25 * LN2)
    plain = VarifocalLoss(reduction="sum", iou_weighted=False)
    assert plain(logits, target).item() == pytest.approx(LN2 + 0.75 * 0.25 * LN2)
    with pytest.raises(ValueError, match="use_sigmoid"):
        VarifocalLoss(use_sigmoid=False)


def test_foveas_numbers_are_compared_as_they_are_said() -> None:
    criterion = PlainCriterion(SigmoidLoss(), L1Loss())
    # sides of 4 pixels of cells of 8: log(1/2) each
    losses = criterion(scene(torch.zeros(4), coder=ExponentialBBoxCoder()), ASSIGNED, TARGETS)
    assert losses["loss_bbox"].item() == pytest.approx(4 * LN2)
    assert losses["loss_cls"].item() == pytest.approx(5 * 2 * LN2 / (1 + 2))


def test_of_two_groups_of_costs_the_lower_one_is_low() -> None:
    low = low_costs(torch.tensor([[0.1, 0.11, 0.12, 5.0, 5.01, torch.inf]]))
    # up to the likeliest of the three, which is the middle one
    assert low.tolist() == [[True, True, False, False, False, False]]


def test_a_single_candidate_is_not_enough() -> None:
    assert not low_costs(torch.tensor([[0.1, torch.inf], [torch.inf, torch.inf]])).any()
    assert low_costs(torch.tensor([[0.1, 9.0]])).tolist() == [[True, False]]


def test_candidates_of_low_loss_become_positives() -> None:
    criterion = ProbabilisticCriterion(FocalLoss(), iou_loss(mode="linear"), BinaryCrossEntropyLoss())
    candidates = Assignment(torch.tensor([[0, 0, -1], [-1, -1, -1]]), torch.zeros(2, 3))
    boxes = torch.zeros(2, 3, 4)
    boxes[0, 0] = torch.tensor([4.0, 4, 4, 4])  # the object itself
    boxes[0, 1] = torch.tensor([1.0, 1, 1, 1])  # beside it
    given = scene(boxes, quality=torch.zeros(2, 3))
    given.output.cls_logits[0, 0, 1] = 5.0
    losses = criterion(given, candidates, TARGETS)
    assert losses["loss_iou"].item() == pytest.approx(LN2)  # one positive
    assert losses["loss_bbox"].item() == pytest.approx(0, abs=1e-6)
    negative = 0.75 * 0.25 * LN2
    sure = math.log1p(math.exp(-5.0)) * 0.25 * (1 - 1 / (1 + math.exp(-5.0))) ** 2
    assert losses["loss_cls"].item() == pytest.approx((11 * negative + sure) / 2)  # over at least the images


def test_without_candidates_only_the_background_is_learnt() -> None:
    criterion = ProbabilisticCriterion(FocalLoss(), iou_loss(mode="linear"), BinaryCrossEntropyLoss())
    nothing = Assignment(torch.full((2, 3), -1), torch.zeros(2, 3))
    losses = criterion(scene(torch.ones(4), quality=torch.zeros(2, 3)), nothing, TARGETS)
    assert losses["loss_bbox"].item() == losses["loss_iou"].item() == 0
    assert losses["loss_cls"].item() > 0
