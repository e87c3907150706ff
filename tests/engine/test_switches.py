"""Hooks that train the last epochs in another way, also after resuming."""

from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

import fastdet.data.transforms  # noqa: F401  (registers what the pipeline names)
from fastdet.engine.hooks import PipelineSwitchHook, YOLOXModeSwitchHook, build_hooks
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError


class Loader:
    def __init__(self) -> None:
        self.left_out: list[tuple[str, ...]] = []
        self.changes: list[tuple[Any, ...]] = []

    def leave_out(self, names: Collection[str]) -> None:
        self.left_out.append(tuple(names))

    def change_transforms(self, transforms: Sequence[Callable[..., Any]]) -> None:
        self.changes.append(tuple(transforms))


def state(epoch: int, max_epochs: int = 10) -> Any:
    model = nn.Module()
    model.dense = SimpleNamespace(criterion=SimpleNamespace(use_l1=False))
    return SimpleNamespace(epoch=epoch, max_epochs=max_epochs, model=model, loader=Loader())


@pytest.mark.parametrize(("epoch", "switched"), [(0, False), (5, False), (6, True), (9, True)])
def test_mixing_ends_before_the_last_epochs(epoch: int, switched: bool) -> None:
    present = state(epoch)
    YOLOXModeSwitchHook(num_last_epochs=3).before_epoch(present)
    assert present.model.dense.criterion.use_l1 is switched
    assert present.loader.left_out == ([("Mosaic", "RandomAffine", "MixUp")] if switched else [])


def test_only_yolox_has_the_loss() -> None:
    present = state(9)
    present.model = nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="for YOLOX alone; Linear has no such loss"):
        YOLOXModeSwitchHook().before_epoch(present)


def test_a_pipeline_is_built_with_its_hook_and_takes_over() -> None:
    pipeline = [Spec.of("Resize", scale=(4, 4)), Spec.of("RandomFlip", prob=0.5)]
    (hook,) = build_hooks([Spec.of("PipelineSwitchHook", switch_epoch=4, switch_pipeline=pipeline, priority=48)])
    assert isinstance(hook, PipelineSwitchHook)
    assert hook.priority == 48
    before, after = state(3), state(5)
    hook.before_epoch(before)
    hook.before_epoch(after)
    assert before.loader.changes == []
    assert [[type(step).__name__ for step in steps] for steps in after.loader.changes] == [["Resize", "RandomFlip"]]
    after.loader = object()
    with pytest.raises(ConfigError, match="the transforms of a object cannot be changed"):
        hook.before_epoch(after)
