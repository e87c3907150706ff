"""The Experiment: everything that a training, a test or an export needs to know, frozen and checked.

Sections are keyword-only frozen dataclasses, compared by value. `Experiment.to_dict()` goes to JSON.
The dialects of config files end in `compat`; nothing here has their names.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from fastdet.registry import FrozenDict, Spec, thaw


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights that one module starts from.

    `module` is a dotted name ("backbone"); `prefix` selects and is stripped from the file's keys.
    """

    module: str
    checkpoint: str
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class DataSplit:
    """One loader. RepeatDataset and ConcatDataset hold dataset Specs, leaf datasets hold `transforms`.

    With `images_per_class` the classes take turns, each with that many of its images at a time.
    """

    dataset: Spec
    batch_size: int = 1
    num_workers: int = 0
    shuffle: bool = False
    group_by_aspect_ratio: bool = False
    drop_last: bool = False
    images_per_class: int | None = None

    def __post_init__(self) -> None:
        _positive(self, "batch_size")
        if self.images_per_class is not None:
            _positive(self, "images_per_class")
        _not_negative(self, "num_workers")


@dataclass(frozen=True, kw_only=True)
class Data:
    """The three splits; a missing one is None."""

    train: DataSplit | None = None
    val: DataSplit | None = None
    test: DataSplit | None = None


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The optimizer and what happens between backward and step.

    `algorithm` is a Spec of a torch optimizer (SGD, AdamW, ...) or a registered one, with its learning rate.
    `groups` holds per-parameter rules: norm_decay_mult, bias_lr_mult, bias_decay_mult, custom_keys, ...
    `clip` holds max_norm and norm_type. `loss_scale` is "dynamic" (from `initial_loss_scale` on) or a fixed number,
    for fp16.
    """

    algorithm: Spec
    groups: FrozenDict = field(default_factory=FrozenDict)
    clip: FrozenDict | None = None
    accumulate: int = 1
    amp: Literal["fp16", "bf16"] | None = None
    loss_scale: float | Literal["dynamic"] = "dynamic"
    initial_loss_scale: float = 65536.0

    def __post_init__(self) -> None:
        _positive(self, "accumulate")


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How long to train and when to validate, both counted in `unit`s.

    `dynamic_intervals` holds (begin, interval) pairs: from `begin` on, `interval` replaces `val_interval`.
    """

    unit: Literal["epoch", "iter"] = "epoch"
    length: int = 12
    val_interval: int = 1
    val_begin: int = 1
    dynamic_intervals: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        _positive(self, "length")
        _positive(self, "val_interval")


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """When checkpoints are written.

    `keep` is the number of newest ones kept, -1 for all; `save_best` a metric name or "auto".
    """

    interval: int = 1
    unit: Literal["epoch", "iter"] = "epoch"
    keep: int = -1
    save_best: str | None = None
    rule: Literal["greater", "less"] | None = None
    save_optimizer: bool = True


@dataclass(frozen=True, kw_only=True)
class Ema:
    """An exponential moving average of the weights: `kind` names the momentum's course."""

    kind: Literal["constant", "exponential", "linear"] = "constant"
    momentum: float = 0.0002
    gamma: int = 2000
    interval: int = 1
    update_buffers: bool = False


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Everything around the training: files, seeds, logging, devices, users' hooks.

    `reinit_head` lets a head start anew that `load_from` has for another number of classes.
    """

    work_dir: str | None = None
    load_from: str | None = None
    reinit_head: bool = False
    resume: bool = False
    seed: int | None = None
    deterministic: bool = False
    log_interval: int = 50
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    ema: Ema | None = None
    auto_scale_lr: bool = False
    base_batch_size: int | None = None
    val_loss: bool = False
    find_unused_parameters: bool = False
    sync_batch_norm: bool = False
    backend: str = "nccl"
    hooks: tuple[Spec, ...] = ()
    custom_imports: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One detector with its data, training and evaluation.

    `model` is a tree of Specs (see docs/architecture.md); `classes` the class names in label order, empty if the
    config leaves them to the dataset. `schedule` holds Specs of learning-rate phases in MMEngine's names
    (LinearLR, MultiStepLR, ...), with `begin`, `end` and `by_epoch`.
    """

    model: Spec
    weights: tuple[Pretrained, ...] = ()
    classes: tuple[str, ...] = ()
    data: Data = field(default_factory=Data)
    optimizer: Optimizer | None = None
    schedule: tuple[Spec, ...] = ()
    loop: Loop = field(default_factory=Loop)
    val_metrics: tuple[Spec, ...] = ()
    test_metrics: tuple[Spec, ...] = ()
    runtime: Runtime = field(default_factory=Runtime)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: dataclasses and Specs as dicts, tuples as lists."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, Spec | type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return thaw(value)


def _positive(section: Any, name: str) -> None:
    value = getattr(section, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def _not_negative(section: Any, name: str) -> None:
    value = getattr(section, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, not {value!r}")
