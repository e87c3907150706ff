"""Balanced L1: values at the join, gradients of both parts."""

import math

import pytest
import torch

from fastdet.models.losses import BalancedL1Loss


def test_the_two_parts_meet_at_beta() -> None:
    loss = BalancedL1Loss(reduction="none")
    below, above = loss(torch.tensor([1 - 1e-6, 1.0]), torch.zeros(2)).tolist()
    assert above == pytest.approx(1.5 + 1.5 / (math.exp(3) - 1) - 0.5)
    assert below == pytest.approx(above, abs=1e-4)


def test_the_gradient_grows_with_the_logarithm_up_to_gamma() -> None:
    values = torch.tensor([-3.0, 0.0, 0.5, 2.0], requires_grad=True)
    BalancedL1Loss(reduction="sum")(values, torch.zeros(4)).backward()
    assert values.grad is not None
    middle = 0.5 * math.log((math.exp(3) - 1) * 0.5 + 1)
    assert values.grad.tolist() == pytest.approx([-1.5, 0, middle, 1.5])


def test_weight_and_average_follow_the_other_losses() -> None:
    loss = BalancedL1Loss(loss_weight=2.0)
    values, weight = torch.tensor([2.0, math.nan]), torch.tensor([1.0, 0.0])
    single = 1.5 * 2 + 1.5 / (math.exp(3) - 1) - 0.5
    assert loss(values, torch.zeros(2), weight=weight, avg_factor=4).item() == pytest.approx(2 * single / 4)


def test_beta_must_be_positive() -> None:
    with pytest.raises(ValueError, match="beta"):
        BalancedL1Loss(beta=0)
