"""An exponential moving average of the weights, with MMEngine's update rules."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fastdet.config import schema


class Ema:
    """The averaged weights of a model.

    average = (1 - m) * average + m * weight, every `interval` updates; the first update copies. With
    `update_buffers` floating-point buffers are averaged too, otherwise buffers are copied at each update.
    The momentum m of update n = 0, 1, ...:

    - constant: `momentum`
    - exponential: (1 - momentum) * exp(-(1 + n) / gamma) + momentum (YOLOX; MMDetection's ExpMomentumEMA)
    - linear: min(momentum ** interval, (1 + n) / (gamma + n)) (MMDetection 2.x's LinearMomentumEMAHook)
    """

    def __init__(self, model: nn.Module, section: schema.Ema) -> None:
        if not 0 < section.momentum < 1:
            raise ValueError(f"the EMA's momentum must lie in (0, 1), not {section.momentum}")
        self.section = section
        self.steps = 0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        parameters = {name for name, _ in model.named_parameters()}
        floats = {name for name, value in self.average.items() if value.is_floating_point()}
        self._averaged = sorted(floats if section.update_buffers else parameters & floats)
        self._copied = sorted(self.average.keys() - set(self._averaged))

    def momentum(self) -> float:
        """The weight of the model in the next update."""
        m, gamma, n = self.section.momentum, self.section.gamma, self.steps
        if self.section.kind == "exponential":
            return (1 - m) * math.exp(-float(1 + n) / gamma) + m
        if self.section.kind == "linear":
            return min(m**self.section.interval, (1 + n) / (gamma + n))
        return m

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the model's present weights."""
        source = model.state_dict()
        averages = [self.average[name] for name in self._averaged]
        weights = [source[name] for name in self._averaged]
        if self.steps == 0:
            torch._foreach_copy_(averages, weights)
        elif self.steps % self.section.interval == 0:
            momentum = self.momentum()
            if self.section.kind == "constant":
                torch._foreach_lerp_(averages, weights, momentum)
            else:
                torch._foreach_mul_(averages, 1 - momentum)
                torch._foreach_add_(averages, weights, alpha=momentum)
        for name in self._copied:
            self.average[name].copy_(source[name])
        self.steps += 1

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """The model holds the averaged weights inside the block, and its own again after it."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        source = model.state_dict()
        for name in self._averaged:
            own = source[name].clone()
            source[name].copy_(self.average[name])
            self.average[name].copy_(own)

    def state_dicts(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a checkpoint holds, as MMEngine's EMAHook writes it.

        Returns:
            `state_dict`, the averaged weights, and `ema_state_dict`, the model's own under "module." with `steps`.
        """
        own = {f"module.{name}": value for name, value in weights.items()}
        return {name: self.average[name] for name in weights}, {"steps": torch.tensor(self.steps), **own}

    def load_state_dicts(self, averaged: Mapping[str, Tensor], ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Takes in what `state_dicts` gave; returns the model's own weights."""
        for name, value in self.average.items():
            value.copy_(averaged[name])
        self.steps = int(ema["steps"])
        return {name.removeprefix("module."): value for name, value in ema.items() if name != "steps"}

    def start_from(self, weights: Mapping[str, Any]) -> None:
        """Begins with the given weights, for checkpoints that hold no average."""
        for name, value in self.average.items():
            value.copy_(weights[name])
        self.steps = 0
