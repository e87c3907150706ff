"""Fixtures of checkpoint tests: files as MMDetection writes them, with objects of packages that are not installed."""

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

Save = Callable[..., Path]


class HistoryBuffer:
    """Pickles as MMEngine's: arrays, a length, and a table of its own methods."""

    def __init__(self, values: list[float]) -> None:
        self.max_length = 1_000_000
        self._log_history = np.array(values)
        self._count_history = np.ones(len(values), dtype=np.int64)

    def mean(self) -> float:
        return float(self._log_history.mean())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise AssertionError("the stored object's own code ran")


class StoredConfig(dict[str, Any]):
    """Pickles as MMCV's ConfigDict: a subclass of dict with attributes beside its items."""


class Anything:
    """An object of a package that nobody knows."""


def _as(cls: type, module: str, name: str) -> None:
    """Lets the class pickle under a foreign name, its methods included."""
    cls.__module__, cls.__qualname__, cls.__name__ = module, name, name
    for value in vars(cls).values():
        if isinstance(value, types.FunctionType):
            value.__module__, value.__qualname__ = module, f"{name}.{value.__name__}"


@pytest.fixture
def foreign() -> Iterator[dict[str, type]]:
    """Classes of mmengine, mmcv and an unknown package; the modules are there only while the file is saved."""
    names = {
        "mmengine.logging.history_buffer": HistoryBuffer,
        "mmcv.utils.config": StoredConfig,
        "my_package.thing": Anything,
    }
    _as(HistoryBuffer, "mmengine.logging.history_buffer", "HistoryBuffer")
    _as(StoredConfig, "mmcv.utils.config", "ConfigDict")
    _as(Anything, "my_package.thing", "Anything")
    made = {}
    for name, cls in names.items():
        module = types.ModuleType(name)
        setattr(module, cls.__name__, cls)
        parts = name.split(".")
        for i in range(1, len(parts)):
            made.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
        made[name] = module
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    yield {"HistoryBuffer": HistoryBuffer, "ConfigDict": StoredConfig, "Anything": Anything}
    for name, module in before.items():
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module


@pytest.fixture
def forget(foreign: dict[str, type], monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the foreign packages not importable, as on a machine without them."""

    def forget_now() -> None:
        for name in [n for n in sys.modules if n.split(".")[0] in ("mmengine", "mmcv", "my_package")]:
            monkeypatch.setitem(sys.modules, name, None)

    return forget_now


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes an object by torch.save; returns its path."""

    def save_file(content: Any, name: str = "epoch_1.pth", **options: Any) -> Path:
        path = tmp_path / name
        torch.save(content, path, **options)
        return path

    return save_file


@pytest.fixture
def network() -> nn.Module:
    """A tiny network with convolution and batch norm, seeded."""
    torch.manual_seed(0)
    return nn.ModuleDict({"backbone": nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)), "head": nn.Linear(2, 3)})
