"""The TrainState: everything that a training step reads and changes."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fastdet.engine.ema import Ema
from fastdet.engine.optim import Accumulation, Clip, Scaler
from fastdet.engine.schedule import Schedule
from fastdet.structures import Batch

TIMES = ("data_time", "time")
"""Names in metrics that are seconds a batch; they stand last in rows and are never the best metric."""


class Loader(Protocol):
    """Batches of an epoch, the same ones for the same epoch, from any position on."""

    def __len__(self) -> int:
        """Batches of an epoch."""
        ...

    def iterate(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_batch` on, on the CPU."""
        ...


@runtime_checkable
class Epochwise(Protocol):
    """A detector that trains in another way from some epoch on."""

    def start_epoch(self, epoch: int) -> None:
        """Says which epoch begins, counted from 0."""
        ...


class Losses(nn.Module):
    """A detector as a module whose forward gives the losses, which is what DistributedDataParallel can wrap."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The detector's named losses for a batch."""
        return self.detector.loss(batch, generator)  # type: ignore[operator]


def total_loss(losses: dict[str, Tensor]) -> Tensor:
    """The sum of what has "loss" in its name; the rest (accuracies) is only logged."""
    return torch.stack([value.float().mean() for name, value in losses.items() if "loss" in name]).sum()


@dataclass(kw_only=True)
class TrainState:
    """A training in progress. Hooks are given it at every point.

    The position is what is *finished*: `epoch` passes over the data, `step` iterations, `batch` batches of the pass
    that is under way. With the seed it fixes every random number of the next step.
    """

    model: nn.Module  # the detector itself
    losses: nn.Module  # `Losses`, wrapped for several processes
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: Scaler
    clip: Clip
    accumulation: Accumulation
    generator: torch.Generator  # on the device; samplers draw from it
    device: torch.device
    seed: int
    loader: Loader
    max_epochs: int
    max_steps: int
    work_dir: Path
    logger: logging.Logger
    amp: torch.dtype | None = None
    ema: Ema | None = None

    epoch: int = 0
    step: int = 0
    batch: int = 0

    log_values: dict[str, Tensor] = field(default_factory=dict)  # of the last step, on the device: losses, accuracies
    grad_norm: Tensor | None = None  # before clipping, of the last update
    metrics: dict[str, float] = field(default_factory=dict)  # of the last validation
    evaluated_step: int = -1  # the step after which it ran
    should_stop: bool = False  # hooks may set it: the run ends after this step as if it were complete

    @property
    def epoch_length(self) -> int:
        """Batches of an epoch."""
        return len(self.loader)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.should_stop or self.epoch >= self.max_epochs or self.step >= self.max_steps

    @property
    def lr(self) -> float:
        """The learning rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])
