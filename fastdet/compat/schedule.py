"""3.x optim_wrapper, param_scheduler and train_cfg as Optimizer, schedule Specs and Loop."""

from collections.abc import Mapping
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.config.schema import Loop, Optimizer
from fastdet.registry import FrozenDict, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .dialect import Section, at, dict_list, frozen, name_of, place_of, spec, spec_of, without
from .pipeline import REQUIRED

GROUP_DEFAULTS = {
    "lr_mult": 1, "decay_mult": 1, "bias_lr_mult": 1, "bias_decay_mult": 1, "norm_decay_mult": 1,
    "dwconv_decay_mult": 1, "dcn_offset_lr_mult": 1, "flat_decay_mult": 1, "bypass_duplicate": False,
    "custom_keys": FrozenDict(),
}  # fmt: skip
DEFAULT_CONSTRUCTORS = ("DefaultOptimWrapperConstructor", "DefaultOptimizerConstructor")

# Arguments and defaults of MMEngine's schedules, without the name of what they change (LR, Momentum) at the end.
SCHEDULES: dict[str, dict[str, Any]] = {
    "Step": {"step_size": REQUIRED, "gamma": 0.1},
    "MultiStep": {"milestones": REQUIRED, "gamma": 0.1},
    "Constant": {"factor": 1 / 3},
    "Linear": {"start_factor": 1 / 3, "end_factor": 1.0},
    "Exponential": {"gamma": REQUIRED},
    "CosineAnnealing": {"T_max": None, "eta_min": None, "eta_min_ratio": None},
    "Poly": {"eta_min": 0, "eta_min_ratio": None, "power": 1.0},
    "CosineRestart": {"periods": REQUIRED, "restart_weights": (1,), "eta_min": None, "eta_min_ratio": None},
    "OneCycle": {
        "eta_max": 0, "total_steps": None, "pct_start": 0.3, "anneal_strategy": "cos", "div_factor": 25.0,
        "final_div_factor": 1e4, "three_phase": False,
    },
    "QuadraticWarmup": {},
}  # fmt: skip
# Their `end` only says when they stop, so an end after the training's equals the training's.
STOPPING = frozenset({"Step", "MultiStep"})


def optimizer(wrapper: Any) -> Optimizer | None:
    """The optimizer of an optim_wrapper in 3.x form; None if there is none.

    Raises:
        ConfigError: an unknown key or a wrong value.
        UnsupportedConfig: another wrapper, or clipping by value.
    """
    if not wrapper:
        return None
    section = Section(wrapper, "optim_wrapper")
    kind = name_of(wrapper, "OptimWrapper")
    section.skip("type")
    if kind not in ("OptimWrapper", "AmpOptimWrapper"):
        raise section.unsupported(f"{kind!r} is not supported", "supported: OptimWrapper, AmpOptimWrapper", "type")
    node = section.take("optimizer")
    if not isinstance(node, ConfigDict) or "type" not in node:
        raise ConfigError(f"optim_wrapper needs an optimizer with a type, not {node!r}{at(section.place())}")
    groups = _groups(section.take("paramwise_cfg"), section.text("constructor"))
    values: dict[str, Any] = {
        "algorithm": spec_of(node),
        "groups": groups,
        "clip": _clip(section),
        "accumulate": section.whole("accumulative_counts", 1),
    }
    dtype, scale = section.text("dtype", "float16"), section.take("loss_scale", "dynamic")
    section.skip("use_fsdp")
    if kind == "AmpOptimWrapper":
        if dtype not in ("float16", "bfloat16"):
            raise section.wrong("dtype", dtype, "'float16' or 'bfloat16'")
        values["amp"] = "fp16" if dtype == "float16" else "bf16"
        values.update(_scale(section, scale))
    section.finish()
    try:
        return Optimizer(**values)
    except ValueError as problem:
        raise ConfigError(f"optim_wrapper: {problem}{at(section.place())}") from problem


def _groups(rules: Any, constructor: str | None) -> FrozenDict:
    """Rules per parameter; multipliers of one are left out. A constructor of another kind stands in them by name."""
    values = without(dict(rules or {}), GROUP_DEFAULTS)
    if constructor is not None and constructor.rpartition(".")[2] not in DEFAULT_CONSTRUCTORS:
        values["constructor"] = constructor.removeprefix("mmdet.")
    return FrozenDict({k: frozen(v) for k, v in values.items()})


def _clip(section: Section) -> FrozenDict | None:
    node = section.take("clip_grad")
    if node is None:
        return None
    inner = Section(node, "clip_grad")
    inner.only("type", "norm")
    # A gradient that is not finite stops the training with a message, always.
    inner.skip("error_if_nonfinite", "foreach")
    norm, order = inner.number("max_norm"), inner.number("norm_type", 2)
    inner.finish()
    if norm is None:
        raise ConfigError(f"clip_grad needs max_norm{at(inner.place())}")
    return FrozenDict(max_norm=norm, norm_type=order)


def _scale(section: Section, scale: Any) -> dict[str, Any]:
    """A number is a fixed loss scale, a dict sets where the dynamic one starts."""
    if isinstance(scale, Mapping):
        inner = Section(scale, "loss_scale")
        start = inner.number("init_scale", 65536.0)
        inner.finish()
        return {"loss_scale": "dynamic", "initial_loss_scale": float(start)}
    if scale == "dynamic":
        return {"loss_scale": "dynamic"}
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise section.wrong("loss_scale", scale, "'dynamic', a number or dict(init_scale=...)")
    return {"loss_scale": float(scale)}


def loop(train_cfg: Any) -> Loop:
    """The training loop of a train_cfg in 3.x form; fastdet's default without one.

    Raises:
        ConfigError: an unknown key or a wrong value.
        UnsupportedConfig: a loop of another kind.
    """
    if not train_cfg:
        return Loop()
    section = Section(train_cfg, "train_cfg")
    kind = name_of(train_cfg, "EpochBasedTrainLoop" if train_cfg.get("by_epoch", True) else "IterBasedTrainLoop")
    section.skip("type", "by_epoch")
    if kind not in ("EpochBasedTrainLoop", "IterBasedTrainLoop"):
        raise UnsupportedConfig(
            f"the loop {kind!r} is not supported{at(section.place('type'))}\n"
            "  supported: EpochBasedTrainLoop, IterBasedTrainLoop"
        )
    by_epoch = kind == "EpochBasedTrainLoop"
    key = "max_epochs" if by_epoch else "max_iters"
    length = section.whole(key)
    if length is None:
        raise ConfigError(f"train_cfg needs {key}{at(section.place())}")
    values: dict[str, Any] = {
        "unit": "epoch" if by_epoch else "iter",
        "length": length,
        "val_interval": section.whole("val_interval", 1 if by_epoch else 1000),
        "val_begin": section.whole("val_begin", 1),
    }
    intervals = section.take("dynamic_intervals") or ()
    values["dynamic_intervals"] = tuple((int(begin), int(interval)) for begin, interval in intervals)
    section.finish()
    try:
        return Loop(**values)
    except ValueError as problem:
        raise ConfigError(f"train_cfg: {problem}{at(section.place())}") from problem


def check_loop(cfg: ConfigDict, key: str, known: tuple[str, ...]) -> None:
    """Takes val_cfg or test_cfg, whose loops have nothing to set.

    Raises:
        UnsupportedConfig: a loop of another kind, or evaluation in half precision.
    """
    node = cfg.get(key)
    if not node:
        return
    section = Section(node, key)
    kind = name_of(node, known[0])
    if kind not in known:
        raise section.unsupported(f"the loop {kind!r} is not supported", f"supported: {', '.join(known)}", "type")
    section.skip("type")
    section.only("fp16", False)
    section.finish()


def schedule(schedulers: Any, loop: Loop) -> tuple[Spec, ...]:
    """The phases of learning rate and momentum, in the order in which they are written."""
    return tuple(_phase(node, loop) for node in dict_list(schedulers, "param_scheduler"))


def _phase(node: ConfigDict, loop: Loop) -> Spec:
    """One schedule with all of its arguments; those without a table here are carried as they are."""
    kind = name_of(node)
    suffix = next((s for s in ("LR", "Momentum") if kind.endswith(s)), "")
    form = kind.removesuffix(suffix)
    section = Section(node, kind)
    section.skip("type", "verbose")
    section.only("last_step", -1)
    values: dict[str, Any] = {
        "begin": section.whole("begin", 0),
        "end": section.take("end"),
        "by_epoch": section.flag("by_epoch", True),
    }
    if section.flag("convert_to_iter_based", False):
        values["convert_to_iter_based"] = True
    if isinstance(values["end"], float):
        values["end"] = int(values["end"])
    if form not in SCHEDULES:
        values.update(section.left())
        return spec(kind, values, node)
    for key, default in SCHEDULES[form].items():
        values[key] = section.take(key, default)
        if values[key] is REQUIRED:
            raise ConfigError(f"{kind} needs the argument {key!r}{at(place_of(node))}")
    section.finish()
    if form in STOPPING and values["by_epoch"] == (loop.unit == "epoch"):
        values["end"] = min(values["end"] or loop.length, loop.length)
    if "eta_min" in values:
        if values["eta_min"] is None and values["eta_min_ratio"] is None:
            values["eta_min"] = 0
        for key in ("eta_min", "eta_min_ratio"):
            if values[key] is None:
                del values[key]
    if form == "CosineAnnealing" and values["T_max"] is None:
        end = values["end"] if values["end"] is not None else loop.length
        values["T_max"] = end - values["begin"]
    return spec(kind, values, node)
