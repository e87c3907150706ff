"""What a training writes while it runs: MMEngine's text lines and JSON rows."""

import datetime
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from fastdet.engine import distributed
from fastdet.engine.progress import Progress
from fastdet.engine.state import TIMES, TrainState
from fastdet.structures import Batch
from fastdet.utils.logging import FILE_ONLY


class _Step(NamedTuple):
    """One iteration in the window: its values on the device, and the seconds it took."""

    names: tuple[str, ...]
    values: torch.Tensor
    data_time: float
    time: float


class RowFile:
    """JSON lines, written to `<run id>.json` and `scalars.json` alike."""

    def __init__(self, folder: Path, run_id: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = (folder / f"{run_id}.json", folder / "scalars.json")

    def write(self, row: Mapping[str, float | int]) -> None:
        """Appends a row to both files."""
        line = json.dumps(row) + "\n"
        for path in self._paths:
            with open(path, "a", encoding="utf-8") as file:
                file.write(line)


class TrainingLog:
    """Averages the losses over the last `interval` iterations and writes them at every such one.

    The values stay on the device until they are written: one transfer an interval, none a step.

    Args:
        rows: where JSON rows go; None on ranks that write nothing.
        unit: what the loop counts, "epoch" or "iter".
    """

    def __init__(self, rows: RowFile | None, progress: Progress, *, interval: int, unit: str) -> None:
        self._rows = rows
        self._progress = progress
        self._interval = interval
        self._unit = unit
        self._window: deque[_Step] = deque(maxlen=max(interval, 1))
        self._mark = time.perf_counter()
        self._data_time = 0.0
        self._steps = 0
        self.seconds = 0.0  # in training steps, since this process began
        self.data_seconds = 0.0  # of these, waiting for data

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Passes the batches on and measures how long each was waited for."""
        while True:
            self._mark = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self._data_time = time.perf_counter() - self._mark
            yield batch

    def after_step(self, state: TrainState) -> None:
        """Takes in the step that `state` has just finished, and writes if it is time to."""
        elapsed = time.perf_counter() - self._mark
        self._steps += 1
        self.seconds += elapsed
        self.data_seconds += self._data_time
        values = dict(state.log_values)
        if state.clip.active and state.grad_norm is not None:
            values = {"grad_norm": state.grad_norm, **values}
        stacked = torch.stack([value.detach().float().reshape(()) for value in values.values()])
        self._window.append(_Step(tuple(values), stacked, self._data_time, elapsed))
        self._progress.advance()

        count = state.batch if self._unit == "epoch" else state.step
        is_last = state.batch == state.epoch_length if self._unit == "epoch" else state.step == state.max_steps
        if (self._interval > 0 and count % self._interval == 0) or is_last:
            self._write_step(state)

    def _write_step(self, state: TrainState) -> None:
        means = self._means()
        if self._rows is None:
            return
        groups = state.optimizer.param_groups
        rates = {"lr": state.lr}
        if len(groups) > 1:
            rates = {"base_lr": float(state.optimizer.defaults["lr"]), **rates}
        row: dict[str, float | int] = {**rates, **means}
        row["data_time"] = sum(s.data_time for s in self._window) / len(self._window)
        row["time"] = sum(s.time for s in self._window) / len(self._window)
        row = {name: row[name] for name in (*rates, "data_time", *means, "time")}
        if self._unit == "epoch":
            row["epoch"] = state.epoch + 1
        row["iter"] = state.step
        if state.device.type == "cuda":
            row["memory"] = int(torch.cuda.max_memory_allocated(state.device) / 2**20)
        row["step"] = state.step
        self._rows.write(row)

        eta = datetime.timedelta(seconds=int(self.seconds / self._steps * (state.max_steps - state.step)))
        memory = f"memory: {row['memory']}  " if "memory" in row else ""
        line = (
            f"{self._head(state)}  {' '.join(f'{k}: {v:.4e}' for k, v in rates.items())}  eta: {eta}  "
            f"time: {row['time']:.4f}  data_time: {row['data_time']:.4f}  {memory}"
            + "  ".join(f"{name}: {value:.4f}" for name, value in means.items())
        )
        state.logger.info(line, extra=FILE_ONLY)
        self._progress.show(means, seconds=row["time"], data_seconds=row["data_time"], lr=state.lr, eta=str(eta))

    def _head(self, state: TrainState) -> str:
        if self._unit == "iter":
            width = len(str(state.max_steps))
            return f"Iter(train) [{state.step:>{width}}/{state.max_steps}]"
        epoch = f"[{state.epoch + 1}]".rjust(len(str(state.max_epochs)) + 3)
        width = len(str(state.epoch_length))
        return f"Epoch(train){epoch}[{state.batch:>{width}}/{state.epoch_length}]"

    def _means(self) -> dict[str, float]:
        """Window means over all ranks; of names without "loss", "time" or "grad_norm" the last value, as MMEngine."""
        names = self._window[-1].names
        steps = [step.values for step in self._window if step.names == names]
        table = torch.stack(steps)
        averaged = torch.tensor([any(part in n for part in ("loss", "time", "grad_norm")) for n in names])
        means = torch.where(averaged.to(table.device), table.mean(0), table[-1])
        return dict(zip(names, distributed.mean_(means).tolist(), strict=True))

    def after_validation(self, state: TrainState, *, batches: int, note: str = "") -> None:
        """Writes the row and the line of a validation; times stand last, which MMDetection's analyze_logs needs."""
        if self._rows is None:
            return
        metrics = {name: value for name, value in state.metrics.items() if name not in TIMES}
        times = {name: state.metrics[name] for name in TIMES if name in state.metrics}
        number = state.epoch if self._unit == "epoch" else state.step
        self._rows.write({**metrics, **times, "step": number})
        head = (
            f"Epoch(val) [{number}][{batches}/{batches}]"
            if self._unit == "epoch"
            else f"Iter(val) [{batches}/{batches}]"
        )
        figures = "  ".join(f"{name}: {value:.4f}" for name, value in {**metrics, **times}.items())
        state.logger.info(f"{head}    {figures}", extra=FILE_ONLY)
        self._progress.show_validation(metrics, note)
