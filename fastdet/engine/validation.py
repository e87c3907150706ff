"""Validation during training: metrics, and the loss on request."""

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fastdet.engine import distributed
from fastdet.engine.state import Loader, TrainState, total_loss
from fastdet.utils.errors import DataError
from fastdet.utils.seed import derive_seed, seed_everything

Evaluate = Callable[[int], Mapping[str, float]]
"""Tests the detector and returns the figures by name; given the number of finished epochs. Runs on every rank."""


@torch.no_grad()
def validation_loss(state: TrainState, loader: Loader) -> dict[str, float]:
    """The losses on the validation images: `val_loss` and its parts, weighted by images, over all ranks.

    The model is in eval mode: running statistics normalise and dropout is off, so the figure belongs to the weights
    that are tested. Samplers draw from (seed, batch), the same at every validation.

    Raises:
        DataError: if the loader's batches have no targets.
    """
    sums: dict[str, Tensor] = {}
    images = torch.zeros((), device=state.device)
    generator = torch.Generator(state.device)
    for index, batch in enumerate(loader.iterate(0)):
        if batch.targets is None:
            raise DataError("the validation loss needs annotations: its pipeline lacks LoadAnnotations")
        generator.manual_seed(derive_seed(state.seed, index))
        batch = batch.to(state.device)
        with torch.autocast(state.device.type, dtype=state.amp, enabled=state.amp is not None):
            losses = state.model.loss(batch, generator)  # type: ignore[operator]
        values = {"loss": total_loss(losses), **losses}
        for name, value in values.items():
            weighted = value.float().mean() * len(batch.metas)
            sums[name] = sums[name] + weighted if name in sums else weighted
        images += len(batch.metas)
    table = distributed.sum_(torch.stack([images, *sums.values()])).tolist()
    return {f"val_{name}": value / table[0] for name, value in zip(sums, table[1:], strict=True)}


def validate(
    state: TrainState, evaluate: Evaluate | None, loss_loader: Loader | None, *, batches: int
) -> dict[str, float]:
    """Runs the evaluation with the averaged weights if there are any, in eval mode, and leaves the state as it was.

    Args:
        loss_loader: batches with targets for the validation loss; None leaves it out.
        batches: how many batches the evaluation has, for `time`, its seconds a batch.

    Returns:
        The metrics, then `val_*` losses, then `time`. Also stored in the state.
    """
    began = time.perf_counter()
    state.model.eval()
    distributed.broadcast_buffers(state.model)
    swapped = state.ema.swapped(state.model) if state.ema is not None else torch.no_grad()
    try:
        with swapped:
            # Nothing may depend on how often or where a run validates: seeds from (seed, step), as in training.
            seed_everything(derive_seed(state.seed, state.step))
            metrics = {name: float(value) for name, value in (evaluate(state.epoch) if evaluate else {}).items()}
            if loss_loader is not None:
                metrics.update(validation_loss(state, loss_loader))
    finally:
        state.model.train()
    metrics.setdefault("time", (time.perf_counter() - began) / max(batches, 1))
    state.metrics = distributed.broadcast_object(metrics)
    state.evaluated_step = state.step
    return state.metrics
