"""Quality focal, distribution focal and binary losses: hand-computed values."""

import math

import pytest
import torch

from fastdet.models.losses import BinaryCrossEntropyLoss, DistributionFocalLoss, QualityFocalLoss

LN2 = math.log(2)


def test_classes_are_pulled_towards_the_quality_of_the_box() -> None:
    logits, labels = torch.zeros(3, 2), torch.tensor([0, 1, 2])
    loss = QualityFocalLoss(reduction="none")(logits, labels, torch.tensor([1.0, 0.5, 0.9]))
    # each term is ln 2 times the squared error: 0.5 at quality 1, 0 at quality 0.5, 0.5 at every other class
    assert loss.tolist() == pytest.approx([LN2 / 4 + LN2 / 4, LN2 / 4, LN2 / 2])


def test_the_softmax_form_is_refused() -> None:
    with pytest.raises(ValueError, match="use_sigmoid"):
        QualityFocalLoss(use_sigmoid=False)


def test_distances_pull_on_the_two_bins_beside_them() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
    loss = DistributionFocalLoss(reduction="none")
    assert loss(logits, torch.tensor([0.25])).tolist() == pytest.approx([0.75 * LN2 + 0.25 * 2 * LN2])
    assert loss(logits, torch.tensor([1.0])).tolist() == pytest.approx([2 * LN2])


def test_targets_between_zero_and_one_are_allowed() -> None:
    loss = BinaryCrossEntropyLoss(loss_weight=2)
    value = loss(torch.zeros(2), torch.tensor([0.3, 1.0]), weight=torch.tensor([1.0, 0.0]), avg_factor=4)
    assert value.item() == pytest.approx(2 * LN2 / 4)
