"""Hooks that train the last epochs in another way: without mixed images, with other transforms.

They look at the number of the epoch alone, so that a resumed training is where it would have been.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, runtime_checkable

from fastdet.engine.hooks.base import Hook
from fastdet.engine.state import TrainState
from fastdet.registry import HOOKS
from fastdet.utils.errors import ConfigError


@runtime_checkable
class ChangingLoader(Protocol):
    """A loader whose transforms can be changed between epochs."""

    def leave_out(self, names: Collection[str]) -> None: ...

    def change_transforms(self, transforms: Sequence[Callable[..., Any]]) -> None: ...


@HOOKS.register()
class YOLOXModeSwitchHook(Hook):
    """Leaves the mixing of images out and adds the L1 loss of boxes, from the epoch before the last `num_last_epochs`.

    Source: Ge et al., YOLOX, section 2.1; the epoch as in MMDetection: `epoch + 1 >= max_epochs - num_last_epochs`,
    counted from 0.

    Args:
        num_last_epochs: how many.
        skip_type_keys: names of the transforms to leave out.
    """

    def __init__(
        self,
        num_last_epochs: int = 15,
        skip_type_keys: Sequence[str] = ("Mosaic", "RandomAffine", "MixUp"),
    ) -> None:
        self.num_last_epochs = num_last_epochs
        self.skip_type_keys = tuple(skip_type_keys)

    def before_epoch(self, state: TrainState) -> None:
        """Switches if it is time.

        Raises:
            ConfigError: the detector has no L1 loss to add.
        """
        if state.epoch + 1 < state.max_epochs - self.num_last_epochs:
            return
        criterion = getattr(getattr(state.model, "dense", None), "criterion", None)
        if not hasattr(criterion, "use_l1"):
            raise ConfigError(f"YOLOXModeSwitchHook is for YOLOX alone; {type(state.model).__name__} has no such loss")
        criterion.use_l1 = True  # type: ignore[union-attr]
        _changing(state).leave_out(self.skip_type_keys)


@HOOKS.register()
class PipelineSwitchHook(Hook):
    """Gives the training set other transforms from an epoch on. Source: MMDetection's `PipelineSwitchHook`.

    Args:
        switch_epoch: the first epoch with them, counted from 0.
        switch_pipeline: the transforms.
    """

    def __init__(self, switch_epoch: int, switch_pipeline: Sequence[Callable[..., Any]]) -> None:
        self.switch_epoch = switch_epoch
        self.switch_pipeline = tuple(switch_pipeline)

    def before_epoch(self, state: TrainState) -> None:
        """Switches if it is time."""
        if state.epoch >= self.switch_epoch:
            _changing(state).change_transforms(self.switch_pipeline)


def _changing(state: TrainState) -> ChangingLoader:
    if not isinstance(state.loader, ChangingLoader):
        raise ConfigError(f"the transforms of a {type(state.loader).__name__} cannot be changed on the way")
    return state.loader
