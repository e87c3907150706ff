"""Gradient harmonised losses: hand-computed weights, moving averages, elements that do not count."""

import math

import pytest
import torch

from fastdet.models.losses import GHMC, GHMR

LN2 = math.log(2)
SURE = -100.0  # a logit whose probability is 0


def test_a_crowd_of_easy_elements_weighs_as_much_as_one_hard_element() -> None:
    loss = GHMC(bins=2)
    even = loss(torch.tensor([[0, SURE], [0, SURE]]), torch.tensor([0, 2]), weight=torch.ones(2))
    uneven = loss(torch.tensor([[0, SURE], [SURE, SURE]]), torch.tensor([0, 2]), weight=torch.ones(2))
    assert even.item() == pytest.approx(2 * LN2 / 4)  # two elements a region: all weights are 1
    assert uneven.item() == pytest.approx(2 * LN2 / 4)  # alone in its region: 4 / 1 / 2 regions


def test_the_numbers_of_a_region_are_averaged_over_steps() -> None:
    loss = GHMC(bins=2, momentum=0.75)
    inputs = torch.tensor([[0, SURE], [SURE, SURE]]), torch.tensor([0, 2])
    assert loss(*inputs, weight=torch.ones(2)).item() == pytest.approx(LN2 / 4 * 4 / 0.25 / 2)
    assert loss.acc_sum.tolist() == [0.75, 0.25]
    assert loss(*inputs, weight=torch.ones(2)).item() == pytest.approx(LN2 / 4 * 4 / 0.4375 / 2)
    assert set(loss.state_dict()) == {"edges", "acc_sum"}


def test_a_region_without_elements_keeps_its_average() -> None:
    loss = GHMC(bins=2, momentum=0.5)
    loss(torch.tensor([[0.0]]), torch.tensor([0]), weight=torch.ones(1))
    loss(torch.tensor([[SURE]]), torch.tensor([1]), weight=torch.ones(1))
    assert loss.acc_sum.tolist() == [0.5, 0.5]


def test_elements_without_weight_are_in_no_region() -> None:
    loss = GHMC(bins=2, momentum=0.5)
    value = loss(torch.tensor([[0.0], [math.nan]]), torch.tensor([0, 0]), weight=torch.tensor([1.0, 0.0]))
    assert loss.acc_sum.tolist() == [0, 0.5]
    assert value.item() == pytest.approx(LN2 * 2)
    assert loss(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), weight=torch.zeros(2)).item() == 0


def test_deltas_are_harmonised_too() -> None:
    loss = GHMR(mu=4, bins=2, loss_weight=10)
    values = torch.tensor([[0.0, 3.0], [7.0, 7.0]], requires_grad=True)  # gradients of 0 and 3 / 5
    weight = torch.tensor([[1.0], [0.0]])
    value = loss(values, torch.zeros(2, 2), weight=weight)
    assert value.item() == pytest.approx(10 * (5 - 4) / 2)
    value.backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == pytest.approx([0, 10 * 0.6 / 2, 0, 0])


def test_large_errors_are_in_the_last_region() -> None:
    loss = GHMR(mu=0.02, bins=10)
    value = loss(torch.tensor([[1e6]]), torch.zeros(1, 1), weight=torch.ones(1, 1))
    assert value.item() == pytest.approx(1e6, rel=1e-5)


def test_only_the_sigmoid_form_is_defined() -> None:
    with pytest.raises(ValueError, match="use_sigmoid"):
        GHMC(use_sigmoid=False)
