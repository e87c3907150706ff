"""What must be known of every step: was it finite, and does anyone want to stop or to save.

The answers travel as one small tensor, the ballot, whose first entries are agreed on by all processes. Where the
optimizer's step can be skipped on the device (fused optimizers on CUDA) the ballot is read one step late, so the host
never waits for the step it has just launched; elsewhere it is read at once, which costs nothing on the CPU.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fastdet.engine import distributed
from fastdet.engine.checkpoint import write_file
from fastdet.engine.state import TrainState
from fastdet.structures import Batch
from fastdet.utils.errors import FastdetError

BAD, BAD_LOSS, STOP, SAVE, BAD_LOSS_HERE, NORM = range(6)
AGREED = 4  # the entries that are the maximum over all processes


class Diverged(FastdetError):
    """The loss or the gradients became NaN or infinite; the step was not applied."""


class _Record(NamedTuple):
    """What a report on a step needs, kept until its ballot is read."""

    step: int
    epoch: int
    batch_index: int
    lr: float
    values: dict[str, Tensor]
    batch: Batch
    ballot: Tensor
    arrived: torch.cuda.Event | None


def can_skip_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer's step obeys `found_inf` without the host (fused SGD, Adam, AdamW, Adagrad)."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False)) and all(
        group.get("fused") for group in optimizer.param_groups
    )


class Guard:
    """Watches the steps of a run.

    `stop` (a signal's number, 0 for none) and `save` hold what all processes agreed on at the last ballot read.

    Args:
        deferred: read ballots one step late; needs an optimizer that `can_skip_on_device`.
        advice: how to mend a diverged run, appended to the message.
    """

    def __init__(self, *, deferred: bool, advice: str = "") -> None:
        self.deferred = deferred
        self.stop = 0
        self.save = False
        self._advice = advice
        self._pending: _Record | None = None
        self._previous_norm: tuple[int, float] | None = None

    def post(
        self, state: TrainState, batch: Batch, total: Tensor, norm: Tensor | None, *, stop: int, save: bool
    ) -> Tensor:
        """Casts this step's ballot, before the update.

        Args:
            total: the step's loss.
            norm: the gradients' norm if an update follows. Infinite gradients under fp16 loss scaling are the
                scaler's business and not judged here.

        Returns:
            1.0 if the update must not happen, else 0.0; float32 scalar on the device.

        Raises:
            Diverged: if this step was bad, or with deferred reading the one before. So nothing is applied after it.
        """
        bad_loss = (~torch.isfinite(total.detach())).float().reshape(1)
        bad = bad_loss
        if norm is not None and not state.scaler.enabled:
            bad = torch.maximum(bad, (~torch.isfinite(norm)).float())
        shown_norm = torch.full_like(bad, -1.0) if norm is None else norm.detach().float().reshape(1)
        wishes = torch.tensor([float(stop), float(save)])
        if state.device.type == "cuda":
            wishes = wishes.pin_memory().to(state.device, non_blocking=True)
        ballot = torch.cat([bad, bad_loss, wishes, bad_loss, shown_norm])
        distributed.maximum_(ballot[:AGREED])
        must_skip = ballot[BAD]
        arrived = None
        if self.deferred and ballot.is_cuda:
            ballot = ballot.to("cpu", non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        record = _Record(state.step, state.epoch, state.batch, state.lr, state.log_values, batch, ballot, arrived)
        if self.deferred:
            previous, self._pending = self._pending, record
            if previous is not None:
                self._read(state, previous)
        else:
            self._read(state, record)
        return must_skip

    def settle(self, state: TrainState) -> None:
        """Reads what is pending. Called before anything is written from the weights.

        Raises:
            Diverged: if the last step was bad.
        """
        if self._pending is not None:
            record, self._pending = self._pending, None
            self._read(state, record)

    def _read(self, state: TrainState, record: _Record) -> None:
        if record.arrived is not None:
            record.arrived.synchronize()
        bad, bad_loss, stop, save, bad_loss_here, norm = record.ballot.tolist()
        if bad:
            raise Diverged(self._report(state, record, is_elsewhere=bad_loss > bad_loss_here, norm=norm))
        self.stop, self.save = max(self.stop, int(stop)), self.save or bool(save)
        if math.isfinite(norm) and norm >= 0:
            self._previous_norm = (record.step + 1, norm)

    def _report(self, state: TrainState, record: _Record, *, is_elsewhere: bool, norm: float) -> str:
        rank = distributed.get_rank()
        place = f"epoch {record.epoch + 1}, iteration {record.batch_index + 1} (step {record.step + 1}, rank {rank})"
        if is_elsewhere:
            return f"the loss of another process became NaN or infinite at {place}; see its message"
        values = {name: float(value) for name, value in record.values.items()}
        wrong = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            what = f"the loss became {'NaN' if any('nan' in w for w in wrong) else 'infinite'}"
        else:
            wrong, what = [f"grad_norm = {norm}"], "the loss is finite, but its gradients became NaN or infinite"
        path = state.work_dir / ("nan_batch.pt" if distributed.get_world_size() == 1 else f"nan_batch_rank{rank}.pt")
        save_batch(record.batch, path)
        images = ", ".join(f"{meta.image_id} ({Path(meta.path).name})" for meta in record.batch.metas)
        lines = [f"{what} at {place}: {', '.join(wrong)}", f"images {images}; the batch is saved to {path}"]
        before = ""
        if self._previous_norm is not None:
            before = f"; grad_norm was {self._previous_norm[1]:.3g} at step {self._previous_norm[0]}"
        lines.append(f"lr {record.lr:g} with batch {len(record.batch.metas)}{before}; the bad step was not applied")
        if self._advice:
            lines.append(self._advice)
        return "\n  ".join(lines)


def step_unless(bad: Tensor, state: TrainState, *, deferred: bool) -> None:
    """The optimizer's step, skipped on the device where `bad` is 1; the caller has raised if it could read `bad`."""
    if not deferred or state.scaler.enabled:
        # With fp16, train_step has turned the gradients of a bad loss into NaN, which the scaler skips.
        state.scaler.step(state.optimizer)
        return
    state.optimizer.found_inf = bad  # type: ignore[attr-defined]
    state.optimizer.step()
    del state.optimizer.found_inf  # type: ignore[attr-defined]


def save_batch(batch: Batch, path: Path) -> None:
    """Writes a batch as plain tensors and values, readable with weights_only=True."""
    content: dict[str, object] = {
        "pixels": batch.pixels.cpu(),
        "sizes": batch.sizes.cpu(),
        "metas": [meta._asdict() for meta in batch.metas],
    }
    if batch.targets is not None:
        targets = batch.targets._asdict()
        masks = targets.pop("masks")
        content["targets"] = {name: value.cpu() for name, value in targets.items() if value is not None}
        if masks is not None:
            content["masks"] = {name: value.cpu() for name, value in masks._asdict().items()}
    if batch.proposals is not None:
        content["proposals"] = {name: value.cpu() for name, value in batch.proposals._asdict().items()}
    write_file(content, path)
