"""Curves out of a training's JSON lines, as MMEngine and fastdet write them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastdet.utils.errors import DataError

# Counters and times, which are no curves.
_NOT_CURVES = frozenset({"epoch", "iter", "step", "time", "data_time", "memory", "eta", "mode"})


class Curve(NamedTuple):
    """One value over the training: `x` in iterations, ascending."""

    x: list[float]
    y: list[float]


class TrainingCurves(NamedTuple):
    """What was logged: values of training rows, and of validation rows (metrics and `val_*` losses), by name."""

    train: Mapping[str, Curve]
    val: Mapping[str, Curve]


def read_training_log(path: str | Path) -> TrainingCurves:
    """Reads `<timestamp>.json` or `scalars.json`.

    Validation rows count epochs; they are placed at the iteration of the training row before them. Where a run was
    resumed and iterations were logged twice, the later row stands.

    Raises:
        DataError: no such file, or a line that is no JSON object.
    """
    train: dict[str, dict[float, float]] = {}
    val: dict[str, dict[float, float]] = {}
    position = 0.0
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"training log {path} does not exist") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as problem:
            raise DataError(f"training log {path}, line {number} is not JSON: {problem}") from None
        if not isinstance(row, dict):
            raise DataError(f"training log {path}, line {number} is not a JSON object")
        is_train = "lr" in row or "loss" in row
        if is_train:
            position = float(row["step"] if "step" in row else row.get("iter", position))
        target = train if is_train else val
        for name, value in row.items():
            if name not in _NOT_CURVES and isinstance(value, int | float) and math.isfinite(value):
                target.setdefault(name, {})[position] = float(value)
    return TrainingCurves(
        {name: _curve(points) for name, points in train.items()}, {name: _curve(points) for name, points in val.items()}
    )


def _curve(points: Mapping[float, float]) -> Curve:
    xs = sorted(points)
    return Curve(xs, [points[x] for x in xs])
