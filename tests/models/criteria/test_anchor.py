"""AnchorCriterion: hand-computed losses, and gradients that padding cannot spoil."""

import math

import pytest
import torch

from fastdet.models.assigners import Assignment
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.criteria import AnchorCriterion
from fastdet.models.losses import FocalLoss, L1Loss, SigmoidLoss, SoftmaxLoss
from fastdet.models.samplers import PseudoSampler, RandomSampler, Selection
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

LN2 = math.log(2)
PRIORS = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 20], [50, 50, 60, 60]])
TARGETS = make_targets([[[0, 0, 10, 10], [5, 0, 15, 10]]], [[0, 1]])


def output(channels: int) -> DenseOutput:
    return DenseOutput(
        torch.zeros(1, 3, channels, requires_grad=True), torch.zeros(1, 3, 4, requires_grad=True), ((1, 3),)
    )


def assigned(*gt_index: int) -> Assignment:
    return Assignment(torch.tensor([gt_index]), torch.zeros(1, 3))


def everything(*gt_index: int) -> Selection:
    return PseudoSampler()(assigned(*gt_index))


def test_classes_count_for_positives_and_negatives_boxes_for_positives() -> None:
    criterion = AnchorCriterion(SigmoidLoss(), L1Loss(loss_weight=2))
    losses = criterion(output(2), PRIORS, DeltaXYWHBBoxCoder(), everything(1, -1, -2), TARGETS)
    assert losses["loss_cls"].item() == pytest.approx(2 * 2 * LN2)  # 2 anchors, 2 classes, 1 positive
    assert losses["loss_bbox"].item() == pytest.approx(2 * 0.5)  # shifted by half a width


def test_the_softmax_loss_has_the_background_last() -> None:
    raw = output(3)
    criterion = AnchorCriterion(SoftmaxLoss(), L1Loss())
    criterion(raw, PRIORS, DeltaXYWHBBoxCoder(), everything(1, -1, -2), TARGETS)["loss_cls"].backward()
    gradient = raw.cls_logits.grad
    assert gradient is not None
    assert gradient[0].argmin(1).tolist()[:2] == [1, 2]
    assert gradient[0, 2].tolist() == [0, 0, 0]


def test_sampled_slots_average_over_both_kinds() -> None:
    selection = RandomSampler(4, 0.5, order="index")(assigned(0, -1, -1))
    criterion = AnchorCriterion(SigmoidLoss(), L1Loss(), class_agnostic=True, prefix="rpn_")
    losses = criterion(output(1), PRIORS, DeltaXYWHBBoxCoder(), selection, TARGETS)
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_bbox"}
    assert losses["loss_rpn_cls"].item() == pytest.approx(LN2)  # three slots, divided by three


def test_proposals_know_one_class_only() -> None:
    raw = output(1)
    criterion = AnchorCriterion(SigmoidLoss(), L1Loss(), class_agnostic=True)
    criterion(raw, PRIORS, DeltaXYWHBBoxCoder(), everything(1, -1, -2), TARGETS)["loss_cls"].backward()
    assert raw.cls_logits.grad is not None
    assert raw.cls_logits.grad.flatten().tolist() == pytest.approx([-0.5, 0.5, 0])


def test_positives_may_weigh_more() -> None:
    criterion = AnchorCriterion(SigmoidLoss(), L1Loss(), pos_weight=3)
    losses = criterion(output(2), PRIORS, DeltaXYWHBBoxCoder(), everything(1, -1, -2), TARGETS)
    assert losses["loss_cls"].item() == pytest.approx((3 + 1) * 2 * LN2)


def test_boxes_may_be_compared_in_pixels() -> None:
    criterion = AnchorCriterion(SigmoidLoss(), L1Loss(), reg_decoded_bbox=True)
    losses = criterion(output(2), PRIORS, DeltaXYWHBBoxCoder(), everything(1, -1, -2), TARGETS)
    assert losses["loss_bbox"].item() == pytest.approx(5 + 5)  # x1 and x2


@pytest.mark.parametrize("decoded", [False, True])
def test_no_positive_gives_no_box_loss_and_finite_gradients(decoded: bool) -> None:
    raw = output(2)
    criterion = AnchorCriterion(FocalLoss(), L1Loss(), reg_decoded_bbox=decoded)
    losses = criterion(raw, PRIORS, DeltaXYWHBBoxCoder(), everything(-1, -1, -2), make_targets([[]]))
    assert losses["loss_bbox"].item() == 0
    (losses["loss_cls"] + losses["loss_bbox"]).backward()
    assert raw.box_deltas.grad is not None
    assert raw.cls_logits.grad is not None
    assert raw.box_deltas.grad.abs().sum() == 0
    assert raw.cls_logits.grad.isfinite().all()
