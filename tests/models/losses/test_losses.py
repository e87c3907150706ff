"""Losses: hand-computed values, weights and averages."""

import math

import pytest
import torch

from fastdet.models.losses import FocalLoss, L1Loss, MaskLoss, SigmoidLoss, SmoothL1Loss, SoftmaxLoss, reduce_loss
from fastdet.registry import LOSSES

LN2 = math.log(2)


def test_reductions_follow_weight_and_average() -> None:
    loss = torch.tensor([1.0, 2.0, 3.0])
    weight = torch.tensor([1.0, 0.0, 2.0])
    assert reduce_loss(loss, reduction="none", weight=weight).tolist() == [1, 0, 6]
    assert reduce_loss(loss, weight=weight) == pytest.approx(7 / 3)
    assert reduce_loss(loss, weight=weight, reduction="sum") == 7
    assert reduce_loss(loss, weight=weight, avg_factor=2) == pytest.approx(3.5)
    assert reduce_loss(loss * 0, avg_factor=0) == 0
    with pytest.raises(ValueError, match="avg_factor"):
        reduce_loss(loss, reduction="sum", avg_factor=2)
    with pytest.raises(ValueError, match="reduction"):
        reduce_loss(loss, reduction="average")  # type: ignore[arg-type]


def test_elements_of_zero_weight_count_nowhere_even_if_not_finite() -> None:
    assert reduce_loss(torch.tensor([1.0, math.nan]), weight=torch.tensor([1.0, 0.0]), avg_factor=4) == 0.25


def test_softmax_loss_of_even_logits_is_log_of_classes() -> None:
    loss = SoftmaxLoss(loss_weight=2.0)
    labels = torch.tensor([[0, 3], [1, 2]])
    assert loss(torch.zeros(2, 2, 4), labels) == pytest.approx(2 * math.log(4))
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert loss(torch.zeros(2, 2, 4), labels, weight=weight, avg_factor=4) == pytest.approx(math.log(4) / 2)


def test_softmax_loss_knows_class_weights_and_ignored_labels() -> None:
    logits, labels = torch.zeros(3, 2), torch.tensor([0, 1, 7])
    weighted = SoftmaxLoss(class_weight=(1, 3), ignore_index=7, reduction="sum")
    assert weighted(logits, labels) == pytest.approx(4 * LN2)
    assert SoftmaxLoss(ignore_index=7)(logits, labels) == pytest.approx(2 * LN2 / 3)
    assert SoftmaxLoss(ignore_index=7, avg_non_ignore=True)(logits, labels) == pytest.approx(LN2)
    assert SoftmaxLoss(ignore_index=7, reduction="none")(logits, labels).tolist() == pytest.approx([LN2, LN2, 0])


def test_sigmoid_loss_looks_at_each_class_and_has_no_background_channel() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0]])
    labels = torch.tensor([1, 2])  # 2 is background
    softplus = [math.log1p(math.exp(v)) for v in (2.0, 1.0, 0.5, 0.0)]  # the second is positive: softplus(-(-1))
    assert SigmoidLoss(reduction="sum")(logits, labels) == pytest.approx(sum(softplus))
    loss = SigmoidLoss()(logits, labels, weight=torch.tensor([0.0, 1.0]), avg_factor=2)
    assert loss == pytest.approx(sum(softplus[2:]) / 2)


def test_sigmoid_loss_leaves_out_negative_and_ignored_labels() -> None:
    logits, labels = torch.zeros(3, 1), torch.tensor([-1, 0, 255])
    assert SigmoidLoss(ignore_index=255, reduction="sum")(logits, labels) == pytest.approx(LN2)
    assert SigmoidLoss(ignore_index=255, avg_non_ignore=True)(logits, labels) == pytest.approx(LN2)


def test_mask_loss_uses_the_channel_of_the_label_and_counted_instances() -> None:
    logits = torch.zeros(3, 2, 1, 2)
    logits[0, 1] = torch.tensor([100.0, 100.0])
    target = torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    labels, weight = torch.tensor([1, 0, 0]), torch.tensor([1.0, 1.0, 0.0])
    assert MaskLoss()(logits, target, labels, weight=weight) == pytest.approx(LN2 / 2)
    assert MaskLoss()(logits, target, labels) == pytest.approx(2 * LN2 / 3)
    assert MaskLoss()(logits, target, labels, weight=torch.zeros(3)) == 0
    assert MaskLoss()(logits[:, :1], target, labels) == pytest.approx(LN2)  # no classes: one channel


def test_focal_loss_scales_easy_elements_down() -> None:
    logits = torch.tensor([[0.0, math.log(9)]])  # probabilities 0.5 and 0.9
    element = FocalLoss(reduction="none")(logits, torch.tensor([0]))
    assert element[0, 0] == pytest.approx(0.25 * 0.5**2 * LN2)
    assert element[0, 1] == pytest.approx(0.75 * 0.9**2 * math.log(10), rel=1e-6)
    background = FocalLoss(loss_weight=2)(logits, torch.tensor([2]), weight=torch.tensor([1.0]), avg_factor=1)
    assert background == pytest.approx(2 * (0.75 * 0.25 * LN2 + 0.75 * 0.81 * math.log(10)), rel=1e-6)
    with pytest.raises(ValueError, match="use_sigmoid"):
        FocalLoss(use_sigmoid=False)


def test_smooth_l1_bends_at_beta() -> None:
    values, target = torch.tensor([0.5, 3.0]), torch.zeros(2)
    assert L1Loss(reduction="none", loss_weight=2)(values, target).tolist() == [1, 6]
    assert SmoothL1Loss(beta=1.0, reduction="none")(values, target).tolist() == [0.125, 2.5]
    assert SmoothL1Loss(beta=2.0, reduction="sum")(values, target) == pytest.approx(0.0625 + 2)
    assert L1Loss()(values, target, weight=torch.tensor([1.0, 0.0]), avg_factor=2) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="beta"):
        SmoothL1Loss(beta=0)


def test_the_name_and_flags_of_configs_choose_the_cross_entropy() -> None:
    make = LOSSES.get("CrossEntropyLoss")
    assert isinstance(make(), SoftmaxLoss)
    assert isinstance(make(use_sigmoid=True), SigmoidLoss)
    assert isinstance(make(use_mask=True), MaskLoss)
    with pytest.raises(ValueError, match="not both"):
        make(use_sigmoid=True, use_mask=True)
    with pytest.raises(ValueError, match="averages over all pixels"):
        make(use_mask=True, reduction="sum")
