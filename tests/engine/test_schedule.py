"""Learning rates by hand: MMEngine's recurrences, worked out for short phases."""

import math
from collections.abc import Sequence

import pytest
import torch

from fastdet.engine.schedule import Schedule, build_schedule, fold
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig


def course(*specs: Spec, steps: int, base: float = 1.0, epoch_length: int = 1, unit: str = "iter") -> Sequence[float]:
    """The rates of the first steps; with epoch_length 1 an epoch is a step."""
    length = steps if unit == "iter" else math.ceil(steps / epoch_length)
    schedule = build_schedule(specs, unit=unit, length=length, epoch_length=epoch_length)
    return [fold(schedule.rate, base, epoch=step // epoch_length, step=step) for step in range(steps)]


def test_linear_reaches_its_end_factor_at_the_last_step_and_keeps_it() -> None:
    warm_up = Spec.of("LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4)
    assert course(warm_up, steps=6, base=2.0) == pytest.approx([0.2, 0.8, 1.4, 2.0, 2.0, 2.0])


def test_a_phase_does_nothing_before_it_begins() -> None:
    phase = Spec.of("LinearLR", start_factor=0.5, end_factor=0.25, by_epoch=False, begin=2, end=4)
    assert course(phase, steps=5) == pytest.approx([1.0, 1.0, 0.5, 0.25, 0.25])


def test_constant_is_lifted_at_its_last_step() -> None:
    assert course(Spec.of("ConstantLR", factor=0.25, by_epoch=False, end=3), steps=5) == [0.25, 0.25, 1.0, 1.0, 1.0]


def test_constant_of_one_step_is_never_lifted() -> None:
    assert course(Spec.of("ConstantLR", factor=0.25, by_epoch=False, end=1), steps=3) == [0.25, 0.25, 0.25]


def test_multi_step_milestones_count_from_begin_and_may_repeat() -> None:
    phase = Spec.of("MultiStepLR", milestones=[1, 3, 3], gamma=0.5, by_epoch=False, begin=1)
    assert course(phase, steps=6) == [1.0, 1.0, 0.5, 0.5, 0.125, 0.125]


def test_step_multiplies_every_step_size() -> None:
    assert course(Spec.of("StepLR", step_size=2, gamma=0.5, by_epoch=False), steps=6) == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_exponential_multiplies_every_step() -> None:
    assert course(Spec.of("ExponentialLR", gamma=0.5, by_epoch=False, end=3), steps=5) == [1, 0.5, 0.25, 0.25, 0.25]


def test_cosine_goes_to_its_floor_and_rises_again_beyond_t_max() -> None:
    phase = Spec.of("CosineAnnealingLR", T_max=4, eta_min=0.2, by_epoch=False)
    half = math.sqrt(0.5)
    down = [1.0, 0.2 + 0.4 * (1 + half), 0.6, 0.2 + 0.4 * (1 - half), 0.2]
    assert course(phase, steps=9) == pytest.approx([*down, *down[3::-1]])


def test_the_floor_may_be_a_share_of_the_base() -> None:
    phase = Spec.of("CosineAnnealingLR", T_max=2, eta_min_ratio=0.1, by_epoch=False)
    assert course(phase, steps=3, base=3.0) == pytest.approx([3.0, 1.65, 0.3])


def test_poly_shrinks_the_distance_to_its_floor() -> None:
    phase = Spec.of("PolyLR", power=2.0, eta_min=0.2, by_epoch=False, begin=0, end=5)
    assert course(phase, steps=6) == pytest.approx([1.0, 0.65, 0.4, 0.25, 0.2, 0.2])


def test_quadratic_warm_up_ends_at_the_base() -> None:
    phase = Spec.of("QuadraticWarmupLR", by_epoch=False, begin=0, end=4)
    assert course(phase, steps=5, base=1.6) == pytest.approx([0.1, 0.4, 0.9, 1.6, 1.6])


def test_cosine_restarts_jump_back_to_a_weighted_base_and_stay_after_the_last_period() -> None:
    phase = Spec.of("CosineRestartLR", periods=[2, 2], restart_weights=[1.0, 0.5], eta_min=0.0, by_epoch=False)
    assert course(phase, steps=6) == pytest.approx([1.0, 0.5, 0.5, 0.25, 0.25, 0.25])


def test_one_cycle_rises_to_its_maximum_and_ends_at_its_minimum() -> None:
    phase = Spec.of(
        "OneCycleLR", eta_max=1.0, total_steps=11, pct_start=0.3, div_factor=10.0, final_div_factor=10.0,
        anneal_strategy="linear", by_epoch=False,
    )  # fmt: skip
    rates = course(phase, steps=11)
    assert rates[0] == pytest.approx(0.1)
    assert rates[2] == pytest.approx(0.1 + 0.9 * 2 / 2.3)
    assert rates[10] == pytest.approx(0.01)


def test_the_stock_schedule_multiplies_warm_up_and_milestones() -> None:
    rates = course(
        Spec.of("LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
        Spec.of("MultiStepLR", milestones=[8, 11], begin=0, end=12, by_epoch=True),
        steps=12_000, epoch_length=1000, unit="epoch", base=0.02,
    )  # fmt: skip
    assert [rates[0], rates[250], rates[499]] == pytest.approx([2e-5, 0.02 * (0.001 + 0.999 * 250 / 499), 0.02])
    assert [rates[7999], rates[8000], rates[10_999], rates[11_000]] == pytest.approx([0.02, 0.002, 0.002, 0.0002])


def test_phases_are_applied_by_their_begin_not_by_their_place_in_the_list() -> None:
    cosine = Spec.of("CosineAnnealingLR", T_max=2, eta_min=0.5, by_epoch=False, begin=2, end=4)
    halving = Spec.of("LinearLR", start_factor=1.0, end_factor=0.8, by_epoch=False, begin=0, end=2)
    assert course(cosine, halving, steps=5) == course(halving, cosine, steps=5)
    assert course(cosine, halving, steps=5) == pytest.approx([1.0, 0.8, 0.8, 0.65, 0.65])


def test_epochs_can_be_converted_to_iterations() -> None:
    phase = Spec.of("MultiStepLR", milestones=[1, 2], gamma=0.5, begin=1, convert_to_iter_based=True)
    rates = course(phase, steps=12, epoch_length=3, unit="epoch")
    assert rates == [1.0] * 6 + [0.5] * 3 + [0.25] * 3


def test_a_phase_without_an_end_lasts_as_long_as_the_run() -> None:
    assert course(Spec.of("PolyLR", by_epoch=False), steps=5) == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])


def test_every_parameter_group_follows_from_its_own_initial_rate_and_momentum_follows_its_phases() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.Adam([{"params": [weights[0]], "lr": 1.0}, {"params": [weights[1]], "lr": 0.1}])
    for group in optimizer.param_groups:
        group["initial_lr"], group["initial_momentum"] = group["lr"], group["betas"][0]
    specs = [
        Spec.of("LinearLR", start_factor=0.5, by_epoch=False, end=2),
        Spec.of("ConstantMomentum", factor=0.5, by_epoch=False, end=2),
    ]
    schedule = build_schedule(specs, unit="iter", length=4, epoch_length=1)
    schedule.apply(optimizer, epoch=0, step=0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05]
    assert optimizer.param_groups[0]["betas"] == (0.45, 0.999)
    schedule.apply(optimizer, epoch=3, step=3)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1]
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_no_phase_leaves_the_initial_rate() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    optimizer.param_groups[0]["initial_lr"] = 0.3
    Schedule().apply(optimizer, epoch=5, step=50)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_a_phase_by_epochs_in_a_loop_of_iterations_is_refused() -> None:
    with pytest.raises(ConfigError, match="by_epoch=False"):
        build_schedule([Spec.of("MultiStepLR", milestones=[8])], unit="iter", length=100, epoch_length=10)


def test_an_unknown_phase_names_its_neighbours() -> None:
    with pytest.raises(UnsupportedConfig, match="MultiStepLR"):
        build_schedule([Spec.of("MultiStepsLR", milestones=[8])], unit="epoch", length=12, epoch_length=10)


@pytest.mark.parametrize(
    "spec",
    [
        Spec.of("LinearLR", start_factor=0.0),
        Spec.of("LinearLR", begin=5, end=5),
        Spec.of("ConstantLR", factor=1.5),
        Spec.of("CosineAnnealingLR", eta_min=0.1, eta_min_ratio=0.1),
        Spec.of("CosineRestartLR", periods=[1, 2]),
    ],
)
def test_impossible_values_are_refused(spec: Spec) -> None:
    with pytest.raises(ValueError, match=r"must|give"):
        build_schedule([spec], unit="epoch", length=12, epoch_length=10)
