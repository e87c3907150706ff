"""The training loop: a step, an epoch, a run, from top to bottom."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from fastdet.config.schema import Loop
from fastdet.engine import distributed
from fastdet.engine.guard import Guard, step_unless
from fastdet.engine.hooks import Hook
from fastdet.engine.interrupt import Interrupt, Interrupted
from fastdet.engine.log import TrainingLog
from fastdet.engine.progress import Progress
from fastdet.engine.saver import Saver
from fastdet.engine.state import Epochwise, Loader, TrainState, total_loss
from fastdet.engine.validation import Evaluate, validate
from fastdet.structures import Batch
from fastdet.utils.logging import FILE_ONLY
from fastdet.utils.seed import derive_seed, seed_everything


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What works beside the state: the loop calls each in its turn."""

    loop: Loop
    guard: Guard
    log: TrainingLog
    progress: Progress
    saver: Saver
    interrupt: Interrupt
    evaluate: Evaluate | None
    loss_loader: Loader | None
    val_batches: int
    hooks: tuple[Hook, ...] = ()


def train(state: TrainState, parts: Parts) -> None:
    """Trains from where the state is to the end."""
    for hook in parts.hooks:
        hook.before_train(state)
    if state.batch == 0:
        validate_if_due(state, parts)  # a run that was killed in its validation
    while not state.is_finished:
        train_epoch(state, parts)
    parts.guard.settle(state)
    if not parts.saver.has_saved(state) and state.step > 0:
        parts.saver.save(state)
    for hook in parts.hooks:
        hook.after_train(state)


def train_epoch(state: TrainState, parts: Parts) -> None:
    """One pass over the data, or the rest of one."""
    for hook in parts.hooks:
        hook.before_epoch(state)
    if isinstance(state.model, Epochwise):
        state.model.start_epoch(state.epoch)
    state.model.train()
    show_bar(state, parts)
    for batch in parts.log.timed(state.loader.iterate(state.epoch, start_batch=state.batch)):
        train_step(state, batch, parts)
        parts.log.after_step(state)
        save_and_validate(state, parts, "iter")
        for hook in parts.hooks:
            hook.after_step(state)
        stop_or_save_position(state, parts)
        if state.is_finished:
            break
    if state.batch >= state.epoch_length:
        state.epoch, state.batch = state.epoch + 1, 0
        save_and_validate(state, parts, "epoch")
        for hook in parts.hooks:
            hook.after_epoch(state)


def train_step(state: TrainState, batch: Batch, parts: Parts) -> None:
    """One iteration: schedule, forward, backward, and with the last of an accumulated group clip, update, average."""
    state.schedule.apply(state.optimizer, epoch=state.epoch, step=state.step)
    seed_step(state)
    updates = state.accumulation.updates(state.step)
    batch = batch.to(state.device)

    with gradient_sync(state.losses, updates):
        with torch.autocast(state.device.type, dtype=state.amp, enabled=state.amp is not None):
            losses = state.losses(batch, state.generator)
        total = total_loss(losses)
        if state.scaler.enabled:
            # A bad loss must give bad gradients, which the scaler skips; a factor of 1 changes no good one.
            total = total * torch.where(torch.isfinite(total.detach()), 1.0, torch.nan)
        state.scaler.backward(total / state.accumulation.divisor(state.step))
    state.log_values = {
        "loss": total.detach(),
        **{name: value.detach().float().mean() for name, value in losses.items()},
    }

    norm = None
    if updates:
        state.scaler.unscale(state.optimizer)
        norm = state.clip([p.grad for p in state.model.parameters() if p.grad is not None])
        state.grad_norm = norm
    bad = parts.guard.post(state, batch, total, norm, stop=parts.interrupt.number, save=parts.saver.is_overdue())
    if updates:
        step_unless(bad, state, deferred=parts.guard.deferred)
        state.optimizer.zero_grad(set_to_none=True)
    state.step, state.batch = state.step + 1, state.batch + 1
    if state.ema is not None:
        state.ema.update(state.model)


def seed_step(state: TrainState) -> None:
    """Makes every random number of the coming step a function of (seed, step, rank)."""
    seed = derive_seed(state.seed, state.step, distributed.get_rank())
    seed_everything(seed)
    state.generator.manual_seed(derive_seed(seed, 1))


def gradient_sync(module: nn.Module, updates: bool) -> AbstractContextManager[None]:
    """Leaves out the gradients' all-reduce in iterations without an update."""
    if not updates and isinstance(module, nn.parallel.DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


def save_and_validate(state: TrainState, parts: Parts, unit: Literal["epoch", "iter"]) -> None:
    """What is due at the end of an iteration or epoch: first the checkpoint, so that validation cannot lose it."""
    if parts.saver.is_due(state, unit):
        path = parts.saver.save(state)
        state.logger.info(f"Saved checkpoint {path.name}", extra=FILE_ONLY)
    if parts.loop.unit == unit:
        validate_if_due(state, parts)


def validate_if_due(state: TrainState, parts: Parts) -> None:
    """Validates after the loop's interval and at its end, once for a position."""
    loop = parts.loop
    count = state.epoch if loop.unit == "epoch" else state.step
    due = count >= max(loop.val_begin, 1) and (count % interval_at(loop, count) == 0 or count >= loop.length)
    if not due or state.evaluated_step == state.step or (parts.evaluate is None and parts.loss_loader is None):
        return
    parts.progress.stop()
    parts.guard.settle(state)
    try:
        with parts.interrupt.at_once():
            validate(state, parts.evaluate, parts.loss_loader, batches=parts.val_batches)
    except Interrupted:
        stop(state, parts, parts.interrupt.number)
    best = parts.saver.save_best(state, loop.unit)
    parts.log.after_validation(state, batches=parts.val_batches, note=f"saved {best.name}" if best else "")
    if loop.unit == "iter" and not state.is_finished:
        show_bar(state, parts)


def interval_at(loop: Loop, count: int) -> int:
    """The validation interval after `count` finished units; a dynamic one holds from the unit before its begin on.

    That is MMEngine's rule, which asks for the unit that comes next.
    """
    interval = loop.val_interval
    for begin, dynamic in sorted(loop.dynamic_intervals):
        if begin <= count + 1:
            interval = dynamic
    return interval


def stop_or_save_position(state: TrainState, parts: Parts) -> None:
    """Obeys signals and the clock, at positions without half-accumulated gradients."""
    if not state.accumulation.is_clean(state.step) or state.is_finished:
        return
    if parts.guard.stop:
        stop(state, parts, parts.guard.stop)
    if parts.guard.save:
        parts.guard.save = False
        parts.saver.save_position(state)


def stop(state: TrainState, parts: Parts, signal_number: int) -> None:
    """Saves the position and leaves the process with the shell's code: 130 after Ctrl-C, 143 after SIGTERM."""
    parts.progress.stop()
    path = parts.saver.save_position(state)
    state.logger.warning(f"stopped at step {state.step}; continue with --resume (saved {path})")
    raise SystemExit(128 + signal_number)


def show_bar(state: TrainState, parts: Parts) -> None:
    """A fresh progress bar for this epoch, or for the iterations of the run."""
    if parts.loop.unit == "epoch":
        title = f"epoch {state.epoch + 1}/{state.max_epochs}"
        parts.progress.start(title, total=state.epoch_length, done=state.batch)
    else:
        parts.progress.start("iterations", total=state.max_steps, done=state.step)
