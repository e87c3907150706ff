"""Building the detector of one config without memory, and comparing its weights' names and shapes with a list."""

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

import fastdet.build  # noqa: F401 - registers every part
from fastdet.compat import to_experiment
from fastdet.compat.checkpoints.renames import renamed
from fastdet.config.file import load_config
from fastdet.config.schema import Experiment
from fastdet.registry import DATASETS, METRICS, MODEL_PARTS, TRANSFORMS, Registry, Spec, build
from fastdet.tools.coverage import Outcome
from fastdet.utils.errors import ConfigError, EnvironmentProblem, FastdetError, MissingConfig, UnsupportedConfig

Shapes = Mapping[str, Sequence[int]]
_LOADERS = ("data", "train_dataloader", "val_dataloader", "test_dataloader")
_SHOWN = 3  # Names listed where keys differ.


def check_config(path: Path, name: str, listed: Mapping[str, Any] | None = None) -> Outcome:
    """What comes of a config; errors are outcomes too.

    Args:
        path: the file.
        name: how it is called in the report.
        listed: its record in a manifest: `keys` with the shape of every weight, or `error` if the release that the
            list is of cannot build it either.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = load_config(path)
            if not isinstance(config.get("model"), dict) or not any(config.get(key) for key in _LOADERS):
                return Outcome(config=name, status="no detector")
            experiment = to_experiment(config)
            own = _weights(experiment.model)
        except (UnsupportedConfig, EnvironmentProblem) as problem:
            return Outcome(config=name, status="unsupported", detail=str(problem))
        except MissingConfig as problem:
            return Outcome(config=name, status="unreadable", detail=str(problem))
        except Exception as problem:
            known = isinstance(problem, ConfigError) and bool(listed and "error" in listed)
            message = str(problem) if isinstance(problem, FastdetError) else f"{type(problem).__name__}: {problem}"
            return Outcome(config=name, status="refused by both" if known else "failed", detail=message)
    lacking = tuple(sorted(set(_lacking(experiment))))
    if not listed or "keys" not in listed:
        return Outcome(config=name, status="built", lacking=lacking)
    difference = _difference(listed["keys"], own)
    if difference:
        return Outcome(config=name, status="wrong", detail=difference, keys="differ", lacking=lacking)
    return Outcome(config=name, status="built", keys="equal", lacking=lacking)


class _NoDraws(TorchFunctionMode):
    """Leaves random initial values out, which take half of the time and mean nothing without memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]  # nn.init hands its tensor on by name
        return func(*args, **(kwargs or {}))


@functools.cache
def _weights(model: Spec) -> dict[str, list[int]]:
    """Names and shapes; many configs differ in other things than the network."""
    with torch.device("meta"), _NoDraws():
        detector = build(model, MODEL_PARTS, role="detector")
    return {name: list(value.shape) for name, value in detector.state_dict().items()}


def _difference(listed: Shapes, own: Shapes) -> str:
    """How the listed names and shapes, as a checkpoint's names are read here, differ from the network's."""
    moved = renamed(listed, own)
    expected = {moved.get(name, name): list(shape) for name, shape in listed.items()}
    missing = [name for name in expected if name not in own]
    more = [name for name in own if name not in expected]
    shapes = [
        f"{name} {list(own[name])} not {shape}"
        for name, shape in expected.items()
        if name in own and list(own[name]) != shape
    ]
    return "\n".join(
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("too many", more), ("of other shape", shapes))
        if names
    )


def _lacking(experiment: Experiment) -> Iterator[str]:
    """Datasets, transforms and metrics that the config names and that are not registered."""
    data = experiment.data
    for split in (data.train, data.val, data.test):
        if split is not None:
            yield from _unknown(split.dataset, (DATASETS, TRANSFORMS))
    for metric in (*experiment.val_metrics, *experiment.test_metrics):
        yield from _unknown(metric, (METRICS,))


def _unknown(spec: Spec, registries: Sequence[Registry]) -> Iterator[str]:
    if not any(spec.type in registry for registry in registries):
        yield f"{registries[-1].kind if len(registries) == 1 else 'dataset or transform'} {spec.type}"
    for value in spec.args.values():
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Spec):
                yield from _unknown(inner, registries)
