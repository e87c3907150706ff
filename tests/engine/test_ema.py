"""The moving average, by hand."""

import math

import pytest
import torch
from torch import nn

from fastdet.config.schema import Ema as Section
from fastdet.engine.ema import Ema


def one_weight(value: float = 1.0) -> nn.BatchNorm1d:
    model = nn.BatchNorm1d(1)
    set_weight(model, value)
    return model


def set_weight(model: nn.BatchNorm1d, value: float, mean: float = 0.0) -> None:
    with torch.no_grad():
        model.weight.fill_(value)
        model.running_mean.fill_(mean)  # type: ignore[union-attr]


def test_the_first_update_copies_and_later_ones_average() -> None:
    model = one_weight()
    ema = Ema(model, Section(momentum=0.25))
    set_weight(model, 5.0)
    ema.update(model)
    assert ema.average["weight"].item() == 5.0
    set_weight(model, 9.0)
    ema.update(model)
    assert ema.average["weight"].item() == 6.0


def test_buffers_are_copied_unless_they_are_to_be_averaged() -> None:
    for update_buffers, expected in ((False, 8.0), (True, 2.0)):
        model = one_weight()
        ema = Ema(model, Section(momentum=0.25, update_buffers=update_buffers))
        ema.update(model)
        set_weight(model, 1.0, mean=8.0)
        model.num_batches_tracked.fill_(7)  # type: ignore[union-attr, operator]
        ema.update(model)
        assert ema.average["running_mean"].item() == expected
        assert ema.average["num_batches_tracked"].item() == 7


def test_an_interval_leaves_updates_out() -> None:
    model = one_weight(0.0)
    ema = Ema(model, Section(momentum=0.5, interval=2))
    for value in (0.0, 8.0, 8.0):
        set_weight(model, value)
        ema.update(model)
    assert ema.average["weight"].item() == 4.0


def test_the_momentums_follow_their_formulas() -> None:
    model = one_weight()
    exponential = Ema(model, Section(kind="exponential", momentum=0.0002, gamma=2000))
    exponential.steps = 999
    assert exponential.momentum() == pytest.approx(0.9998 * math.exp(-0.5) + 0.0002)
    linear = Ema(model, Section(kind="linear", momentum=0.5, gamma=100))
    linear.steps = 10
    assert linear.momentum() == pytest.approx(11 / 110)
    linear.steps = 1000
    assert linear.momentum() == 0.5


def test_an_exponential_update_mixes_with_its_momentum() -> None:
    model = one_weight(1.0)
    ema = Ema(model, Section(kind="exponential", momentum=0.1, gamma=10))
    ema.update(model)
    set_weight(model, 3.0)
    ema.update(model)
    momentum = 0.9 * math.exp(-0.2) + 0.1
    assert ema.average["weight"].item() == pytest.approx(1.0 * (1 - momentum) + 3.0 * momentum)


def test_the_model_gets_its_own_weights_back_after_a_swap_even_after_an_error() -> None:
    model = one_weight(1.0)
    ema = Ema(model, Section())
    set_weight(model, 5.0, mean=2.0)

    def look_and_fail() -> None:
        with ema.swapped(model):
            assert model.weight.item() == 1.0
            assert model.running_mean.item() == 2.0  # type: ignore[union-attr]
            raise RuntimeError("evaluation failed")

    with pytest.raises(RuntimeError, match="evaluation failed"):
        look_and_fail()
    assert (model.weight.item(), ema.average["weight"].item()) == (5.0, 1.0)


def test_checkpoints_hold_the_average_as_the_weights_and_the_models_own_beside_it() -> None:
    model = one_weight(1.0)
    ema = Ema(model, Section())
    ema.update(model)
    set_weight(model, 5.0)
    averaged, own = ema.state_dicts(model.state_dict())
    assert averaged["weight"].item() == 1.0
    assert own["module.weight"].item() == 5.0
    assert own["steps"].item() == 1

    other = Ema(one_weight(7.0), Section())
    weights = other.load_state_dicts(averaged, own)
    assert (other.average["weight"].item(), weights["weight"].item(), other.steps) == (1.0, 5.0, 1)


def test_a_momentum_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum"):
        Ema(one_weight(), Section(momentum=1.5))
