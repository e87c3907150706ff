"""Learning-rate phases with MMEngine's names and values, as closed forms: resuming needs no state.

A phase is told how many of its steps have passed and what the earlier phases give; it answers with its own value.
MMEngine computes the same values by recurrence (mmengine/optim/scheduler/param_scheduler.py); the closed forms agree to
rounding wherever phases that overlap are multiplicative (all shipped configs). Two phases that overlap while one of
them has a floor (`eta_min`) are applied here in the order of their `begin`: the floor then holds exactly.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch

from fastdet.registry import SCHEDULES, FrozenDict, Spec, build
from fastdet.utils.errors import ConfigError

UNBOUNDED = 10**9
"""MMEngine's value for a phase without an end."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase, active for `begin <= t < end`; afterwards its last value stays.

    `t` counts finished epochs (`by_epoch`) or finished iterations. `counts` names the fields measured in `t`.
    """

    begin: int = 0
    end: int = UNBOUNDED
    by_epoch: bool = True
    counts: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.end <= self.begin:
            raise ValueError(f"end must be greater than begin, not begin={self.begin}, end={self.end}")

    @property
    def last(self) -> int:
        """The last local step, where the phase's final value is reached."""
        return self.end - self.begin - 1

    def value(self, s: int, current: float, base: float) -> float:
        """The parameter at the local step `s` in [0, last], given what earlier phases make of `base`."""
        raise NotImplementedError

    def in_iterations(self, epoch_length: int) -> "Phase":
        """The same phase counted in iterations, as MMEngine's `convert_to_iter_based`."""
        if not self.by_epoch:
            raise ValueError("convert_to_iter_based needs by_epoch=True")

        def scaled(value: Any) -> Any:
            if value is None or value == UNBOUNDED:
                return value
            return tuple(v * epoch_length for v in value) if isinstance(value, tuple) else int(value * epoch_length)

        names = ("begin", "end", *self.counts)
        changes = {f.name: scaled(getattr(self, f.name)) for f in fields(self) if f.name in names}
        return replace(self, by_epoch=False, **changes)


def _phase(name: str) -> Any:
    """Registers a phase for the learning rate and for the momentum."""
    return SCHEDULES.register(f"{name}LR", f"{name}Momentum")


@_phase("Constant")
@dataclass(frozen=True, kw_only=True)
class Constant(Phase):
    """A factor that is lifted at the phase's last step."""

    factor: float = 1.0 / 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.factor <= 1:
            raise ValueError(f"factor must lie in (0, 1], not {self.factor}")

    def value(self, s: int, current: float, base: float) -> float:
        return current * self.factor if s < self.last or self.last == 0 else current


@_phase("Linear")
@dataclass(frozen=True, kw_only=True)
class Linear(Phase):
    """A factor that goes linearly from `start_factor` to `end_factor`, which it has at the last step."""

    start_factor: float = 1.0 / 3
    end_factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start_factor <= 1:
            raise ValueError(f"start_factor must lie in (0, 1], not {self.start_factor}")
        if not 0 <= self.end_factor <= 1:
            raise ValueError(f"end_factor must lie in [0, 1], not {self.end_factor}")

    def value(self, s: int, current: float, base: float) -> float:
        if s == 0:
            return current * self.start_factor
        if s == self.last:
            return current * self.end_factor
        return current * (self.start_factor + (self.end_factor - self.start_factor) * s / self.last)


@_phase("Exponential")
@dataclass(frozen=True, kw_only=True)
class Exponential(Phase):
    """A factor gamma for every step."""

    gamma: float

    def value(self, s: int, current: float, base: float) -> float:
        return current * self.gamma**s


@_phase("Step")
@dataclass(frozen=True, kw_only=True)
class Step(Phase):
    """A factor gamma for every `step_size` steps."""

    step_size: int
    gamma: float = 0.1
    counts: ClassVar[tuple[str, ...]] = ("step_size",)

    def value(self, s: int, current: float, base: float) -> float:
        return current * self.gamma ** (s // self.step_size)


@_phase("MultiStep")
@dataclass(frozen=True, kw_only=True)
class MultiStep(Phase):
    """A factor gamma for every milestone reached; milestones count from `begin`."""

    milestones: tuple[int, ...]
    gamma: float = 0.1
    counts: ClassVar[tuple[str, ...]] = ("milestones",)

    def value(self, s: int, current: float, base: float) -> float:
        return current * self.gamma ** bisect_right(sorted(self.milestones), s)


def _floor(eta_min: float | None, ratio: float | None, base: float) -> float:
    return base * ratio if ratio is not None else (eta_min or 0.0)


def _one_floor(eta_min: float | None, ratio: float | None) -> None:
    if eta_min is not None and ratio is not None:
        raise ValueError("give eta_min or eta_min_ratio, not both")


@_phase("CosineAnnealing")
@dataclass(frozen=True, kw_only=True)
class CosineAnnealing(Phase):
    """Half a cosine from the current value to the floor in `T_max` steps (default: the whole phase).

    Beyond T_max the cosine rises again, towards the base value, as MMEngine's and torch's recurrences do.
    """

    T_max: int | None = None
    eta_min: float | None = None
    eta_min_ratio: float | None = None
    counts: ClassVar[tuple[str, ...]] = ("T_max",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_floor(self.eta_min, self.eta_min_ratio)

    def value(self, s: int, current: float, base: float) -> float:
        if s == 0:
            return current
        period = self.T_max or self.end - self.begin
        floor = _floor(self.eta_min, self.eta_min_ratio, base)
        top = current if s <= period else base
        return floor + (top - floor) * (1 + math.cos(math.pi * s / period)) / 2


@_phase("Poly")
@dataclass(frozen=True, kw_only=True)
class Poly(Phase):
    """The distance to `eta_min` shrinks as (1 - s / last) ** power."""

    power: float = 1.0
    eta_min: float = 0.0

    def value(self, s: int, current: float, base: float) -> float:
        if s == 0:
            return current
        return self.eta_min + (current - self.eta_min) * (1 - s / self.last) ** self.power


@_phase("QuadraticWarmup")
@dataclass(frozen=True, kw_only=True)
class QuadraticWarmup(Phase):
    """YOLOX's warm-up: base * ((s + 1) / length) ** 2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end >= UNBOUNDED:
            raise ValueError("end must be given: the step at which the warm-up is over")

    def value(self, s: int, current: float, base: float) -> float:
        return base * (s + 1) ** 2 / (self.end - self.begin) ** 2


@_phase("CosineRestart")
@dataclass(frozen=True, kw_only=True)
class CosineRestart(Phase):
    """Cosines of the given periods, each from base * its restart weight down to the floor (SGDR).

    Source: Loshchilov and Hutter, SGDR, 2017. After the last period its last value stays.
    """

    periods: tuple[int, ...]
    restart_weights: tuple[float, ...] = (1.0,)
    eta_min: float | None = None
    eta_min_ratio: float | None = None
    counts: ClassVar[tuple[str, ...]] = ("periods",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_floor(self.eta_min, self.eta_min_ratio)
        if len(self.periods) != len(self.restart_weights):
            raise ValueError(
                f"periods and restart_weights must have one length, not {self.periods} and {self.restart_weights}"
            )

    def value(self, s: int, current: float, base: float) -> float:
        s = min(s, sum(self.periods) - 1)
        index = 0
        while s >= self.periods[index]:
            s -= self.periods[index]
            index += 1
        floor = _floor(self.eta_min, self.eta_min_ratio, base)
        top = base * self.restart_weights[index]
        return floor + (top - floor) * (1 + math.cos(math.pi * s / self.periods[index])) / 2


@SCHEDULES.register("OneCycleLR")
@dataclass(frozen=True, kw_only=True)
class OneCycle(Phase):
    """Up from eta_max / div_factor to eta_max, then down to eta_max / div_factor / final_div_factor.

    Source: Smith and Topin, Super-Convergence, 2018, in torch's two-phase form. It ignores the optimizer's own rate.
    """

    eta_max: float
    total_steps: int | None = None
    pct_start: float = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False
    counts: ClassVar[tuple[str, ...]] = ("total_steps",)

    def value(self, s: int, current: float, base: float) -> float:
        total = self.total_steps or self.end - self.begin
        low, rise = self.eta_max / self.div_factor, self.pct_start * total
        least = low / self.final_div_factor
        stages = [(rise - 1, low, self.eta_max)]
        if self.three_phase:
            stages.append((2 * rise - 2, self.eta_max, low))
        stages.append((total - 1, stages[-1][2], least))
        start = 0.0
        for until, first, final in stages:
            if s <= until or until == total - 1:
                done = (s - start) / (until - start)
                if self.anneal_strategy == "linear":
                    return first + (final - first) * done
                return final + (first - final) / 2 * (1 + math.cos(math.pi * done))
            start = until
        raise AssertionError("the last stage ends the cycle")


class Schedule:
    """Sets the learning rate (and the momentum, if phases ask for it) of an optimizer for a position in the run."""

    def __init__(self, rate: Sequence[Phase] = (), momentum: Sequence[Phase] = ()) -> None:
        self.rate = tuple(rate)
        self.momentum = tuple(momentum)

    def apply(self, optimizer: torch.optim.Optimizer, *, epoch: int, step: int) -> None:
        """Writes the values for the step that comes after `step` finished iterations into the parameter groups."""
        for group in optimizer.param_groups:
            group["lr"] = fold(self.rate, group["initial_lr"], epoch=epoch, step=step)
            if self.momentum:
                momentum = fold(self.momentum, group["initial_momentum"], epoch=epoch, step=step)
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum


def fold(phases: Sequence[Phase], base: float, *, epoch: int, step: int) -> float:
    """The value that phases make of a base value after `epoch` finished epochs and `step` finished iterations."""
    value = base
    for phase in phases:
        t = epoch if phase.by_epoch else step
        if t >= phase.begin:
            value = phase.value(min(t - phase.begin, phase.last), value, base)
    return value


def build_schedule(specs: Sequence[Spec], *, unit: str, length: int, epoch_length: int) -> Schedule:
    """The schedule that a config's phases describe.

    Args:
        specs: phases such as Spec.of("LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500).
        unit: what the loop counts, "epoch" or "iter".
        length: how many units it runs; phases without an end last as long.
        epoch_length: iterations of an epoch.

    Raises:
        UnsupportedConfig: a phase of unknown name.
        ConfigError: arguments that it does not take; a phase by epochs in a loop that counts iterations.
    """
    rate: list[Phase] = []
    momentum: list[Phase] = []
    for spec in specs:
        args = dict(spec.args)
        convert = args.pop("convert_to_iter_based", False)
        by_epoch = args.get("by_epoch", True)
        if unit == "iter" and by_epoch and not convert:
            raise ConfigError(
                f"{spec.type} counts epochs, but the training is measured in iterations{_place(spec)}\n"
                "  give the phase by_epoch=False with begin, end and milestones in iterations"
            )
        epochs = length if unit == "epoch" else math.ceil(length / epoch_length)
        iterations = length if unit == "iter" else length * epoch_length
        args.setdefault("end", epochs if by_epoch else iterations)
        phase = build(Spec(spec.type, FrozenDict(args), spec.source, spec.arg_sources), [SCHEDULES], role="schedule")
        if convert:
            phase = phase.in_iterations(epoch_length)
        (momentum if spec.type.endswith("Momentum") else rate).append(phase)

    def start(phase: Phase) -> int:
        return phase.begin * epoch_length if phase.by_epoch else phase.begin

    return Schedule(sorted(rate, key=start), sorted(momentum, key=start))


def _place(spec: Spec) -> str:
    return f"\n  {spec.source}" if spec.source else ""
