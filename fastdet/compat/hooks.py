"""3.x default_hooks and custom_hooks: checkpoints, logging and averages into the schema, the others as Specs."""

from dataclasses import dataclass
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.config.schema import Checkpoints, Ema, Loop
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .dialect import Section, as_list, at, dict_list, name_of, place_of, spec, spec_of
from .pipeline import transforms

# Hooks that do what fastdet's runner does anyway.
BUILT_IN = {
    "IterTimerHook": "times are always logged",
    "RuntimeInfoHook": "the state is always in the checkpoint",
    "ParamSchedulerHook": "schedules always run",
    "SetEpochInfoHook": "detectors that ask for the epoch are told it",
    "SyncNormHook": "all processes have the same running statistics always",
    "SyncBuffersHook": "all processes have the same running statistics always",
    "DistSamplerSeedHook": "every epoch is shuffled anew",
    "NumClassCheckHook": "the number of classes is always checked",
    "CheckInvalidLossHook": "a loss that is not finite always stops the training",
    "EmptyCacheHook": "memory only",
    "MemoryProfilerHook": "a measurement only",
    "ProfilerHook": "a measurement only",
}
# They draw pictures while validating and testing, only if `draw` is set.
DRAWING = frozenset({"DetVisualizationHook", "TrackVisualizationHook", "GroundingVisualizationHook"})
# The types that MMEngine's names of default hooks stand for.
DEFAULT_TYPES = {"checkpoint": "CheckpointHook", "logger": "LoggerHook"}
# What MMEngine's LoggerHook does without an interval.
LOG_DEFAULT = 10
EMA_KINDS = {
    "ExponentialMovingAverage": "constant",
    "ExpMomentumEMA": "exponential",
    "LinearMomentumEMA": "linear",
}
EMA_GAMMA = {"constant": 2000, "exponential": 2000, "linear": 100}


@dataclass(frozen=True)
class Hooks:
    """What a config's hooks come to."""

    checkpoints: Checkpoints
    log_interval: int
    ema: Ema | None
    others: tuple[Spec, ...]


def hooks(cfg: ConfigDict, loop: Loop) -> Hooks:
    """Reads default_hooks and custom_hooks.

    Raises:
        ConfigError: an unknown argument of a known hook.
        UnsupportedConfig: a setting of a known hook that fastdet lacks.
    """
    checkpoints, interval = Checkpoints(), 50
    ema: Ema | None = None
    others: list[Spec] = []
    named = cfg.get("default_hooks") or {}
    if not isinstance(named, dict):
        raise ConfigError(f"default_hooks must be a dict of hooks by name{at(cfg.place('default_hooks'))}")
    for name, node in named.items():
        if node is None:
            if name == "checkpoint":
                checkpoints = Checkpoints(interval=loop.length, unit=loop.unit)
            continue
        if name in DEFAULT_TYPES and isinstance(node, ConfigDict) and "type" not in node:
            node = node | {"type": DEFAULT_TYPES[name]}
            node.source = cfg.place("default_hooks")
        for hook in dict_list(node, f"default_hooks.{name}"):
            kind = name_of(hook)
            if kind == "CheckpointHook":
                checkpoints = _checkpoints(hook, loop)
            elif kind == "LoggerHook":
                interval = _logger(hook)
            elif _is_kept(hook, kind):
                others.append(spec_of(hook))
    for hook in dict_list(cfg.get("custom_hooks"), "custom_hooks"):
        kind = name_of(hook)
        if kind == "EMAHook":
            if ema is not None:
                raise UnsupportedConfig(f"two EMAHooks are not supported{at(place_of(hook))}\n  keep one")
            ema = _ema(hook)
        elif kind == "PipelineSwitchHook":
            others.append(_pipeline_switch(hook))
        elif _is_kept(hook, kind):
            others.append(spec_of(hook))
    return Hooks(checkpoints, interval, ema, tuple(others))


def _is_kept(hook: ConfigDict, kind: str) -> bool:
    return kind not in BUILT_IN and not (kind in DRAWING and not hook.get("draw", False))


def _pipeline_switch(hook: ConfigDict) -> Spec:
    section = Section(hook, "PipelineSwitchHook")
    section.skip("type")
    steps = transforms(section.take("switch_pipeline", []), "PipelineSwitchHook.switch_pipeline", training=True)
    values = {"switch_epoch": section.whole("switch_epoch"), "switch_pipeline": steps}
    if "priority" in section:
        values["priority"] = section.take("priority")
    section.finish()
    return spec("PipelineSwitchHook", values, hook)


def _logger(hook: ConfigDict) -> int:
    section = Section(hook, "LoggerHook")
    # What the log looks like, and copies of it elsewhere.
    section.skip("type", "priority", "ignore_last", "interval_exp_name", "out_dir", "out_suffix", "keep_local")
    section.skip("log_metric_by_epoch", *("file_client_args", "backend_args"))
    interval = section.whole("interval", LOG_DEFAULT)
    section.finish()
    return interval


def _checkpoints(hook: ConfigDict, loop: Loop) -> Checkpoints:
    section = Section(hook, "CheckpointHook")
    section.local_files()
    # The schedule's state is its position; a checkpoint holds it always.
    section.skip("type", "priority", "save_param_scheduler")
    section.only("save_last", True)
    section.only("save_begin", 0)
    for key in ("out_dir", "filename_tmpl", "published_keys", "greater_keys", "less_keys"):
        section.only(key, None)
    by_epoch = section.flag("by_epoch", True)
    interval = section.whole("interval", -1)
    best, rule = section.take("save_best"), section.take("rule")
    for key, value in (("save_best", best), ("rule", rule)):
        if len(as_list(value)) > 1:
            raise section.unsupported(f"several values of {key} are not supported", "give one", key)
    values: dict[str, Any] = {
        "keep": section.whole("max_keep_ckpts", -1),
        "save_best": as_list(best)[0] if as_list(best) else None,
        "rule": as_list(rule)[0] if as_list(rule) else None,
        "save_optimizer": section.flag("save_optimizer", True),
    }
    section.finish()
    if interval < 1:
        # No interval means the last state only.
        return Checkpoints(interval=loop.length, unit=loop.unit, **values)
    return Checkpoints(interval=interval, unit="epoch" if by_epoch else "iter", **values)


def _ema(hook: ConfigDict) -> Ema:
    section = Section(hook, "EMAHook")
    section.skip("type", "priority", "strict_load")
    section.only("begin_iter", 0)
    section.only("begin_epoch", 0)
    form = section.text("ema_type", "ExponentialMovingAverage").rpartition(".")[2]
    if form not in EMA_KINDS:
        raise section.unsupported(
            f"ema_type={form!r} is not supported", f"supported: {', '.join(EMA_KINDS)}", "ema_type"
        )
    kind = EMA_KINDS[form]
    values: dict[str, Any] = {
        "kind": kind,
        "momentum": section.number("momentum", 0.0002),
        "gamma": section.whole("gamma", EMA_GAMMA[kind]),
        "interval": section.whole("interval", 1),
        "update_buffers": section.flag("update_buffers", False),
    }
    section.finish()
    return Ema(**values)
