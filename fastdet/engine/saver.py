"""When checkpoints are written, which are kept, and which is the best."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastdet.config.schema import Checkpoints
from fastdet.engine import distributed
from fastdet.engine.checkpoint import pack, point_last, write_file
from fastdet.engine.guard import Guard
from fastdet.engine.state import TIMES, TrainState
from fastdet.utils.errors import ConfigError
from fastdet.utils.logging import FILE_ONLY

POSITION = "resume.pth"
"""The one file for checkpoints that are due to a signal or to time; the next regular one replaces it."""

GREATER = ("acc", "top", "ar@", "auc", "precision", "map", "mdice", "miou", "macc", "aacc")
LESS = ("loss",)


def rule_for(metric: str) -> Literal["greater", "less"]:
    """Whether more or less of a metric is better, by MMEngine's list of name parts.

    Raises:
        ConfigError: if the name tells nothing.
    """
    name = metric.lower()
    if any(part in name for part in GREATER):
        return "greater"
    if any(part in name for part in LESS):
        return "less"
    raise ConfigError(f"is more or less of {metric!r} better? Give the checkpoint hook rule='greater' or rule='less'")


class Saver:
    """Writes the checkpoints of a run on rank 0.

    Regular ones are `epoch_N.pth` or `iter_N.pth`, of which the newest `keep` stay; `best_<metric>_epoch_N.pth`
    follows the metric; `resume.pth` holds a position in the middle of an epoch.

    Args:
        meta: the constant part of each checkpoint's `meta`.
        minutes: write `resume.pth` at least this often, 0 for never.
    """

    def __init__(self, section: Checkpoints, meta: Mapping[str, Any], guard: Guard, *, minutes: float = 0.0) -> None:
        self._section = section
        self._meta = dict(meta)
        self._guard = guard
        self._minutes = minutes
        self._written = time.monotonic()
        self._kept: list[int] = []
        self._last_saved: tuple[int, Path] | None = None  # step and file of the last regular checkpoint
        self.best_score: float | None = None
        self.best_path: Path | None = None
        self.best_position = 0

    def is_due(self, state: TrainState, unit: Literal["epoch", "iter"]) -> bool:
        """Whether a regular checkpoint is to be written at the end of this epoch or iteration."""
        if unit != self._section.unit:
            return False
        count, last = (state.epoch, state.max_epochs) if unit == "epoch" else (state.step, state.max_steps)
        interval = self._section.interval
        return (interval > 0 and count % interval == 0) or count >= last

    def is_overdue(self) -> bool:
        """Whether so much time has passed that the position is to be saved. Rank 0's clock decides."""
        return bool(self._minutes) and time.monotonic() - self._written >= 60 * self._minutes

    def save(self, state: TrainState) -> Path:
        """Writes the regular checkpoint of this epoch or iteration and drops the oldest one beyond `keep`."""
        number = state.step if self._section.unit == "iter" else state.epoch + (state.batch > 0)
        if number not in self._kept:
            self._kept.append(number)
        dropped: list[int] = []
        if self._section.keep > 0:
            dropped, self._kept = self._kept[: -self._section.keep], self._kept[-self._section.keep :]
        path = state.work_dir / f"{self._section.unit}_{number}.pth"
        self._last_saved = (state.step, path)
        self._write(state, path, with_optimizer=self._section.save_optimizer)
        # Only now that the new file is there do old ones go.
        for old in dropped:
            self._remove(state.work_dir / f"{self._section.unit}_{old}.pth")
        self._remove(state.work_dir / POSITION)
        return path

    def has_saved(self, state: TrainState) -> bool:
        """Whether a regular checkpoint of this very position was written."""
        return self._last_saved is not None and self._last_saved[0] == state.step

    def save_position(self, state: TrainState) -> Path:
        """Writes where the run is, in the middle of an epoch or after one, to continue from there."""
        path = state.work_dir / POSITION
        self._write(state, path, with_optimizer=True)
        return path

    def save_best(self, state: TrainState, unit: Literal["epoch", "iter"]) -> Path | None:
        """Writes the best checkpoint if the validation that has just run is better than all before.

        The last regular checkpoint is then written again, so that a resumed run knows the best.

        Raises:
            ConfigError: if `save_best` names a metric that the validation does not give.
        """
        metric = self._section.save_best
        metrics = [name for name in state.metrics if name not in TIMES]
        if metric is None or not metrics:
            return None
        if metric == "auto":
            metric = metrics[0]
        if metric not in metrics:
            raise ConfigError(
                f"save_best={metric!r}, but the validation gives {', '.join(metrics)}; name one of them or 'auto'"
            )
        score = state.metrics[metric]
        sign = 1 if (self._section.rule or rule_for(metric)) == "greater" else -1
        if self.best_score is not None and not sign * score > sign * self.best_score:
            return None
        number = state.epoch if unit == "epoch" else state.step
        beaten = self.best_path
        self.best_score, self.best_position = score, number
        self.best_path = state.work_dir / f"best_{metric.replace('/', '_')}_{unit}_{number}.pth"
        self._write(state, self.best_path, with_optimizer=False, is_newest=False)
        if beaten != self.best_path:
            self._remove(beaten)
        if self._last_saved is not None and self.has_saved(state):
            self._write(state, self._last_saved[1], with_optimizer=self._section.save_optimizer)
        state.logger.info(
            f"The best checkpoint with {score:0.4f} {metric} at {number} {unit} is saved to {self.best_path.name}.",
            extra=FILE_ONLY,
        )
        return self.best_path

    def runtime_info(self) -> dict[str, Any]:
        """What MMEngine keeps of this in `message_hub.runtime_info`."""
        info: dict[str, Any] = {"keep_ckpt_ids": list(self._kept), "best_position": self.best_position}
        if self.best_score is not None and self.best_path is not None:
            info.update(best_score=self.best_score, best_ckpt=str(self.best_path))
        if self._last_saved is not None:
            info["last_ckpt"] = str(self._last_saved[1])
        return info

    def load_runtime_info(self, info: Mapping[str, Any], state: TrainState, path: Path) -> None:
        """Continues with the kept and best checkpoints of the run that is resumed from `path`."""
        if path.parent.resolve() == state.work_dir.resolve() and path.name != POSITION:
            self._last_saved = (state.step, path)
        self._kept = [int(number) for number in info.get("keep_ckpt_ids", ())]
        if "best_score" in info and info.get("best_ckpt"):
            self.best_score = float(info["best_score"])
            self.best_path = state.work_dir / Path(info["best_ckpt"]).name
            self.best_position = int(info.get("best_position", 0))

    def _write(self, state: TrainState, path: Path, *, with_optimizer: bool, is_newest: bool = True) -> None:
        self._guard.settle(state)
        if not state.accumulation.is_clean(state.step):
            # Ranks hold their own partial gradients: the mean over ranks now adds up to the same mean later.
            for parameter in state.model.parameters():
                if parameter.grad is not None:
                    distributed.mean_(parameter.grad)
        if distributed.is_main():
            content = pack(state, meta=self._meta, runtime_info=self.runtime_info(), with_optimizer=with_optimizer)
            write_file(content, path)
            if is_newest:
                point_last(path)
        self._written = time.monotonic()

    @staticmethod
    def _remove(path: Path | None) -> None:
        if path is not None and distributed.is_main():
            path.unlink(missing_ok=True)
