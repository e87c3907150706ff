"""The five points at which users' code can join a training, and how hooks are built from a config."""

from collections.abc import Sequence

from fastdet.engine.state import TrainState
from fastdet.registry import HOOKS, TRANSFORMS, FrozenDict, Spec, build
from fastdet.utils.errors import ConfigError, suggestion

PRIORITIES = {
    "HIGHEST": 0,
    "VERY_HIGH": 10,
    "HIGH": 30,
    "ABOVE_NORMAL": 40,
    "NORMAL": 50,
    "BELOW_NORMAL": 60,
    "LOW": 70,
    "VERY_LOW": 90,
    "LOWEST": 100,
}
"""MMEngine's names for the order of hooks."""


class Hook:
    """Does nothing at any point; override what you need.

    Each point comes after the engine's own work there: after a step is logged, validated and saved where that was
    due, hooks see it. `state.evaluated_step == state.step` tells whether a validation has just run, with its figures
    in `state.metrics`. A hook may set `state.should_stop`.

    `priority` orders hooks, smaller first (0 to 100); hooks of one priority run in the order of the config.
    """

    priority: int = PRIORITIES["NORMAL"]

    def before_train(self, state: TrainState) -> None:
        """Once, after resuming and before the first step."""

    def before_epoch(self, state: TrainState) -> None:
        """Before each pass over the data, and before the rest of a pass that was interrupted."""

    def after_step(self, state: TrainState) -> None:
        """After each training iteration; `state.step` counts it."""

    def after_epoch(self, state: TrainState) -> None:
        """After each complete pass; `state.epoch` counts it."""

    def after_train(self, state: TrainState) -> None:
        """Once, after the last step; not when the run ends by a signal or an error."""


def build_hooks(specs: Sequence[Spec]) -> tuple[Hook, ...]:
    """The hooks that a config names, in the order in which they run.

    Raises:
        UnsupportedConfig: a hook that nobody registered.
        ConfigError: arguments that it does not take, or an unknown priority.
    """
    hooks = []
    for spec in specs:
        args = dict(spec.args)
        priority = args.pop("priority", None)
        bare = Spec(spec.type, FrozenDict(args), spec.source, spec.arg_sources)
        hook = build(bare, [HOOKS, TRANSFORMS], role="hook")
        if priority is not None:
            hook.priority = _number(priority)
        hooks.append(hook)
    return tuple(sorted(hooks, key=lambda hook: hook.priority))


def _number(priority: int | str) -> int:
    if isinstance(priority, int) and 0 <= priority <= 100:
        return priority
    if isinstance(priority, str) and priority.upper() in PRIORITIES:
        return PRIORITIES[priority.upper()]
    raise ConfigError(
        f"a hook's priority is a whole number from 0 to 100 or a name, not {priority!r}\n"
        f"  {suggestion(str(priority), PRIORITIES)}"
    )
