"""From the Experiment's optimizer section to objects: learning rate, optimizer, scaler, clipping, accumulation."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastdet.config.schema import Experiment, Optimizer
from fastdet.engine.groups import parameter_groups
from fastdet.registry import OPTIMIZERS, FrozenDict, check_arguments
from fastdet.utils.errors import ConfigError, UnsupportedConfig, suggestion


class LearningRate(NamedTuple):
    """The factor on the configured learning rate, and the sentence that says why."""

    factor: float
    sentence: str


def choose_learning_rate(experiment: Experiment, world_size: int) -> LearningRate:
    """Applies the linear scaling rule if the user asked for it (Goyal et al., 2017, section 2.1).

    The effective batch is images per process * processes * accumulation. MMEngine leaves accumulation out.
    """
    assert experiment.optimizer is not None
    assert experiment.data.train is not None
    configured = experiment.optimizer.algorithm.args.get("lr")
    batch = experiment.data.train.batch_size * world_size * experiment.optimizer.accumulate
    base = experiment.runtime.base_batch_size
    if configured is None:
        return LearningRate(1.0, f"lr is {experiment.optimizer.algorithm.type}'s default; the config gives none")
    if isinstance(configured, bool) or not isinstance(configured, int | float):
        algorithm = experiment.optimizer.algorithm
        place = algorithm.arg_sources.get("lr") or algorithm.source
        raise ConfigError(
            f"{algorithm.type}: lr must be a number, not {configured!r}" + (f"\n  {place}" if place else "")
        )
    if base is None:
        return LearningRate(
            1.0, f"lr {configured:g} as configured: the config names no base batch size; yours is {batch}"
        )
    if base == batch:
        return LearningRate(1.0, f"lr {configured:g} is for batch {base}, and so is yours")
    factor = batch / base
    if experiment.runtime.auto_scale_lr:
        sentence = f"lr {configured:g} is for batch {base}; yours is {batch} -> using {configured * factor:g}"
        return LearningRate(factor, sentence + " because --auto-scale-lr")
    sentence = f"lr {configured:g} is for batch {base}; yours is {batch} -> not scaled: pass --auto-scale-lr"
    return LearningRate(1.0, f"{sentence} for {configured * factor:g}")


def build_optimizer(
    section: Optimizer, model: nn.Module, *, factor: float = 1.0, device: torch.device | None = None
) -> torch.optim.Optimizer:
    """The optimizer over the model's parameters; each group knows its `initial_lr` (and `initial_momentum`).

    Names are looked up among registered optimizers, then in torch.optim. On CUDA the fused form is chosen where there
    is one and the config does not decide, because a fused step can be skipped on the device (see guard.py).

    Args:
        factor: multiplies every learning rate (the linear scaling rule).

    Raises:
        UnsupportedConfig: an unknown name, or LBFGS, which needs several losses a step.
        ConfigError: arguments that the optimizer does not take.
    """
    spec = section.algorithm
    algorithm = _find(spec.type)
    arguments: dict[str, Any] = {n: dict(v) if isinstance(v, FrozenDict) else v for n, v in spec.args.items()}
    check_arguments(algorithm, spec, {"params": ()})
    takes = inspect.signature(algorithm).parameters
    decided = arguments.get("fused") is not None or arguments.get("foreach") is not None
    if device is not None and device.type == "cuda" and "fused" in takes and not decided:
        arguments["fused"] = True
    parameters: Iterable[Any] = list(model.named_parameters())
    if section.groups:
        lr, weight_decay = arguments.get("lr"), arguments.get("weight_decay")
        parameters = parameter_groups(model, section.groups, lr=lr, weight_decay=weight_decay)
    try:
        optimizer: torch.optim.Optimizer = algorithm(parameters, **arguments)
    except (TypeError, ValueError) as problem:
        place = f"\n  {spec.source}" if spec.source else ""
        raise ConfigError(f"the optimizer {spec.type} cannot be built: {problem}{place}") from problem
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = group["lr"] * factor
        if "betas" in group:
            group["initial_momentum"] = group["betas"][0]
        elif "momentum" in group:
            group["initial_momentum"] = group["momentum"]
    return optimizer


def _find(name: str) -> Any:
    if name in OPTIMIZERS:
        return OPTIMIZERS.get(name)
    in_torch = {
        n: c
        for n, c in vars(torch.optim).items()
        if isinstance(c, type) and issubclass(c, torch.optim.Optimizer) and c is not torch.optim.Optimizer
    }
    del in_torch["LBFGS"]
    if name not in in_torch:
        raise UnsupportedConfig(
            f"{name!r} is not an optimizer that fastdet runs\n  {suggestion(name, [*in_torch, *OPTIMIZERS])}\n"
            "  if it is yours: custom_imports=dict(imports=['your_package.your_module'])"
        )
    return in_torch[name]


class Scaler:
    """Loss scaling for fp16, nothing for other precisions; "dynamic" grows and shrinks, a number stays."""

    def __init__(self, section: Optimizer, device: torch.device) -> None:
        self.fixed = None if section.loss_scale == "dynamic" else float(section.loss_scale)
        self.enabled = section.amp == "fp16"
        initial = section.initial_loss_scale if self.fixed is None else self.fixed
        self.scaler = torch.amp.GradScaler(device.type, init_scale=initial, enabled=self.enabled)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of the scaled loss."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divides the gradients by the scale, in place."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer's step; with fp16 it is left out if gradients overflowed, and the scale adapts."""
        self.scaler.step(optimizer)
        self.scaler.update(self.fixed)

    def state_dict(self) -> dict[str, Any]:
        """torch's GradScaler state; empty if there is no scaling."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state; one saved without scaling leaves the scaler fresh."""
        if state and self.enabled:
            self.scaler.load_state_dict(dict(state))


class Clip:
    """Limits gradients: `type` "norm" (max_norm, norm_type) or "value" (clip_value); None only measures the norm."""

    def __init__(self, options: Mapping[str, Any] | None) -> None:
        rest = dict(options or {})
        kind = rest.pop("type", "norm")
        allowed = {"norm": ("max_norm", "norm_type"), "value": ("clip_value",)}
        if kind not in allowed:
            raise ConfigError(f"clip_grad's type must be 'norm' or 'value', not {kind!r}")
        for name in rest:
            if name not in allowed[kind]:
                raise ConfigError(f"unknown option {name!r} of clip_grad\n  {suggestion(name, allowed[kind])}")
        if options and allowed[kind][0] not in rest:
            raise ConfigError(f"clip_grad needs {allowed[kind][0]}")
        self.max_norm: float | None = rest.get("max_norm")
        self.norm_type = float(rest.get("norm_type", 2.0))
        self.clip_value: float | None = rest.get("clip_value")
        self.active = options is not None and bool(options)

    def __call__(self, gradients: list[Tensor]) -> Tensor:
        """Clips in place; returns the total norm before clipping, a scalar on the gradients' device."""
        norm = torch.nn.utils.get_total_norm(gradients, self.norm_type)
        if self.max_norm is not None:
            # torch's clip_grads_with_norm_ takes parameters; the factor and its 1e-6 are the same.
            factor = torch.clamp(self.max_norm / (norm + 1e-6), max=1.0)
            torch._foreach_mul_(gradients, factor)
        if self.clip_value is not None:
            torch._foreach_clamp_min_(gradients, -self.clip_value)
            torch._foreach_clamp_max_(gradients, self.clip_value)
        return norm


class Accumulation:
    """Gradients of `count` iterations make one update; what is left at the end of the run makes the last one."""

    def __init__(self, count: int, max_steps: int) -> None:
        self.count = count
        self.max_steps = max_steps

    def updates(self, step: int) -> bool:
        """Whether the iteration after `step` finished ones ends with an update."""
        return (step + 1) % self.count == 0 or step + 1 == self.max_steps

    def is_clean(self, step: int) -> bool:
        """Whether no gradients are waiting after `step` finished iterations."""
        return step % self.count == 0 or step >= self.max_steps

    def divisor(self, step: int) -> int:
        """How many iterations share the update that the iteration after `step` finished ones belongs to."""
        remainder = self.max_steps % self.count
        return self.count if step < self.max_steps - remainder else remainder
