"""Experiment -> detector, datasets, loaders, metrics: the one file that sees every registry.

Importing this module registers every part that fastdet has.
"""

import dataclasses
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import fastdet.data.datasets
import fastdet.data.transforms
import fastdet.evaluation
import fastdet.models  # noqa: F401
from fastdet.compat.checkpoints import Checkpoint, LoadReport, load_checkpoint, load_into
from fastdet.config.schema import DataSplit, Experiment
from fastdet.data.datasets.base import Dataset
from fastdet.data.loader import Loader, build_loader
from fastdet.data.pipeline import Transform
from fastdet.engine import distributed
from fastdet.evaluation.metric import Metric
from fastdet.models.results import to_instances
from fastdet.registry import DATASETS, METRICS, MODEL_PARTS, TRANSFORMS, Spec, build, defaults
from fastdet.structures import Batch, Detections, ImageRecord, Instances, Proposals
from fastdet.utils.errors import ConfigError, EnvironmentProblem, FastdetError

if TYPE_CHECKING:
    from fastdet.deploy import BucketedDetector, DeployedDetector

CHECK_SIDE = 64
"""Pixels of a picture with which a new detector is tried: two cells of the coarsest stride of a usual backbone."""
LARGE_CHECK_SIDE = 512
"""Pixels of the second try."""


def choose_device(name: str | None, local_rank: int = 0) -> torch.device:
    """The device of a name; None takes CUDA where there is one, by local rank.

    Raises:
        EnvironmentProblem: a CUDA device that is not there.
        FastdetError: no device name.
    """
    if name is None:
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as problem:
        raise FastdetError(f"--device {name!r} is no device: use cpu, cuda or cuda:0") from problem
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentProblem(
            f"--device {name}: this machine shows {torch.cuda.device_count()} CUDA devices; "
            "`fastdet doctor` tells what torch sees, --device cpu runs without"
        )
    return device


def import_user_parts(experiment: Experiment) -> None:
    """Imports the modules of `custom_imports`, which register the user's own parts.

    Raises:
        ConfigError: a module that cannot be imported, with the reason.
    """
    if experiment.runtime.custom_imports and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in experiment.runtime.custom_imports:
        try:
            importlib.import_module(name)
        except Exception as problem:
            raise ConfigError(f"custom_imports: {name!r} cannot be imported: {problem!r}") from problem


def build_detector(experiment: Experiment, *, load_pretrained: bool = False) -> nn.Module:
    """The network, with freshly initialised weights; also under `torch.device("meta")`.

    Convolution weights are channels-last, so feature maps are too: the layout that RoIAlign reads fastest, and that
    convolutions prefer on the CPU and on tensor cores.

    Args:
        load_pretrained: then load what `experiment.weights` names (ImageNet backbones).

    Raises:
        UnsupportedConfig: a part that is not there.
        CheckpointError: pretrained weights that cannot be had; the message names the file and where to put it.
    """
    import_user_parts(experiment)
    detector: nn.Module = build(experiment.model, MODEL_PARTS, role="detector")
    detector.classes = experiment.classes  # type: ignore[assignment]
    detector = detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if load_pretrained:
        for source in experiment.weights:
            asked_by = ".".join(filter(None, ("model", source.module, "init_cfg")))
            content = load_checkpoint(source.checkpoint, asked_by=asked_by)
            load_into(detector.get_submodule(source.module), content, prefix=source.prefix, strict=False)
    return detector


def check_fit(detector: nn.Module, metrics: Sequence[Spec]) -> None:
    """Runs a small black picture through the detector, so that a misfit is found before hours of training.

    Raises:
        ConfigError: a module was handed something else than it was built for, or the metrics ask for masks that the
            detector does not give.
    """
    was_training = detector.training
    detector.eval()
    try:
        try:
            detections = _predict_black(detector, CHECK_SIDE)
        except (RuntimeError, ValueError):
            # Some pyramids, such as SSD's, have levels of which a small picture has none.
            detections = _predict_black(detector, LARGE_CHECK_SIDE)
    except (RuntimeError, ValueError) as problem:
        names = {id(module): name for name, module in detector.named_modules() if name}
        calls = [id(frame.f_locals.get("self")) for frame, _ in traceback.walk_tb(problem.__traceback__)]
        places = [names[call] for call in calls if call in names]
        where = f"\n  in model.{places[-1]}" if places else ""
        raise ConfigError(f"the parts of the model do not fit together: {problem}{where}") from problem
    finally:
        detector.train(was_training)
    for spec in metrics:
        kinds = spec.args.get("metric", ())
        if "segm" in ((kinds,) if isinstance(kinds, str) else kinds) and detections.masks is None:
            place = spec.arg_sources.get("metric") or spec.source
            raise ConfigError(
                f"{spec.type}: metric='segm' needs masks, and the detector gives none; use metric='bbox'"
                + (f"\n  {place}" if place else "")
            )


def _predict_black(detector: nn.Module, side: int) -> Detections:
    """What the detector finds in a black square."""
    whole = Proposals(torch.tensor([[[0.0, 0.0, side, side]]]), torch.ones(1, dtype=torch.int64))
    picture = Batch(torch.zeros(1, 3, side, side), torch.full((1, 2), side), None, (), whole)
    with torch.no_grad():
        detections: Detections = detector.predict(picture)  # type: ignore[operator]
    return detections


def load_weights(detector: nn.Module, checkpoint: str | Checkpoint, *, trust: bool = False) -> tuple[str, ...]:
    """Loads a checkpoint into a detector; every weight must be there and fit.

    Args:
        checkpoint: a file, a known name, or what was read from one.
        trust: also unpickle types outside the allow-list, which runs the file's code.

    Returns:
        The class names that the checkpoint holds, () if it holds none.
    """
    content = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint, trust=trust)
    load_into(detector, content, strict=True)
    return content.classes


def start_from(detector: nn.Module, checkpoint: str, *, reinit_head: bool = False, trust: bool = False) -> LoadReport:
    """Loads what a checkpoint has of the detector's weights, for fine-tuning.

    Args:
        reinit_head: weights of a head that was for another number of classes keep their fresh values; otherwise they
            are an error.
    """
    return load_into(detector, load_checkpoint(checkpoint, trust=trust), strict=False, reinit_head=reinit_head)


def build_dataset(split: DataSplit) -> Dataset:
    """The dataset of a split, with its wrappers and transforms."""
    return build(split.dataset, (DATASETS, TRANSFORMS), role="dataset")


def leaf_datasets(spec: Spec) -> Iterator[Spec]:
    """The dataset Specs inside the wrappers of one."""
    inner = spec.args.get("dataset", spec.args.get("datasets"))
    if inner is None:
        yield spec
    else:
        for child in (inner,) if isinstance(inner, Spec) else inner:
            yield from leaf_datasets(child)


def test_transforms(experiment: Experiment) -> tuple[Transform, ...]:
    """The transforms of `test_transform_specs`."""
    return tuple(build(spec, (TRANSFORMS,), role="transform") for spec in test_transform_specs(experiment))


def test_transform_specs(experiment: Experiment) -> tuple[Spec, ...]:
    """The transforms of the test set (or of the validation set), for pictures that come from no dataset.

    Raises:
        ConfigError: the config has neither set.
    """
    split = experiment.data.test or experiment.data.val
    if split is None:
        raise ConfigError("the config has no test_dataloader, whose pipeline prepares pictures for the detector")
    specs = next(leaf_datasets(split.dataset)).args.get("transforms", ())
    return tuple(spec for spec in specs if spec.type != "LoadAnnotations")


def build_split_loader(dataset: Dataset, split: DataSplit, detector: nn.Module, *, seed: int, training: bool) -> Loader:
    """This process's loader of a split, padded as the detector wants it."""
    return build_loader(
        dataset,
        split,
        pad_divisor=detector.preprocess.pad_divisor,  # type: ignore[union-attr, arg-type]
        seed=seed,
        rank=distributed.get_rank(),
        world_size=distributed.get_world_size(),
        training=training,
        fixed_size=detector.preprocess.train_size if training else None,  # type: ignore[union-attr, arg-type]
    )


def build_metrics(specs: Sequence[Spec], dataset: Dataset) -> list[Metric]:
    """The metrics of a dataset; its records are read only by metrics that need them."""

    def records() -> list[ImageRecord]:
        return [dataset.record(index) for index in range(len(dataset))]

    live = {"classes": dataset.classes, "category_ids": dataset.category_ids, "records": records}
    relations = getattr(dataset, "relations", None)

    def wanted(spec: Spec) -> dict[str, Any]:
        takes = spec.type in METRICS and "relations" in inspect.signature(METRICS.get(spec.type)).parameters
        return {**live, "relations": relations} if takes else live

    return [build(spec, (METRICS,), role="metric", **wanted(spec)) for spec in specs]


def detector_classes(experiment: Experiment) -> Iterator[tuple[str, Spec, int]]:
    """Every `num_classes` of the model's box and mask heads, as (path, the Spec, the number).

    A number that the config leaves to the head counts too. Proposals have one class, pixels have others than objects.
    """

    def walk(spec: Spec, path: str) -> Iterator[tuple[str, Spec, int]]:
        count = spec.args.get("num_classes", defaults(spec).get("num_classes"))
        if count is not None and "rpn" not in path and "semantic" not in path:
            yield path, spec, count
        for name, value in spec.args.items():
            for child in value if isinstance(value, tuple) else (value,):
                if isinstance(child, Spec):
                    yield from walk(child, f"{path}.{name}")

    yield from walk(experiment.model, "model")


def check_class_count(experiment: Experiment, dataset: Dataset) -> None:
    """Raises ConfigError if a head has another number of classes than the dataset."""
    for path, spec, count in detector_classes(experiment):
        if count != len(dataset.classes):
            place = spec.arg_sources.get("num_classes") or spec.source
            raise ConfigError(
                f"num_classes={count} in {path} but the dataset has {len(dataset.classes)} classes: "
                f"{', '.join(dataset.classes[:10])}{', ...' if len(dataset.classes) > 10 else ''}"
                + (f"\n  written in {place}" if place else "")
                + f"\n  fix: num_classes={len(dataset.classes)}, or metainfo=dict(classes=...) of the dataset"
            )


def predictor(detector: nn.Module, device: torch.device) -> Callable[[Batch], list[Instances]]:
    """A function from a batch to each image's detections in file pixels, on the CPU."""

    @torch.inference_mode()
    def predict(batch: Batch) -> list[Instances]:
        detections = detector.predict(batch.to(device))  # type: ignore[operator]
        return to_instances(detections, batch.metas, getattr(detector, "mask_threshold", 0.5))

    return predict


def load_exported(path: str, device: str | None = None) -> "DeployedDetector | BucketedDetector":
    """An exported detector, or a folder with several sizes of one.

    Args:
        device: as a command line names it; None: a GPU where there is one.

    Raises:
        CheckpointError: the file is missing, or was not written by fastdet.
        EnvironmentProblem: what reads or runs it is not installed.
    """
    try:
        from fastdet.deploy.runtime import load

        return load(path, device=None if device is None else choose_device(device))
    except ImportError as problem:
        raise EnvironmentProblem(f"{path}: {problem}; pip install 'fastdet[export]'") from problem


def evaluate(
    predict: Callable[[Batch], list[Instances]],
    loader: Loader,
    metrics: Sequence[Metric],
    after_batch: Callable[[Batch, list[Instances]], None] | None = None,
) -> dict[str, float]:
    """Runs the loader once and computes the metrics over the results of all ranks; the same numbers on every rank."""
    for metric in metrics:
        metric.reset()
    for batch in loader.iterate(0):
        instances = predict(batch)
        for metric in metrics:
            metric.update(instances, batch.metas)
        if after_batch is not None:
            after_batch(batch, instances)
    values: dict[str, float] = {}
    for metric in metrics:
        if distributed.get_world_size() > 1:
            metric.merge(distributed.gather_objects(metric.state()))
        if distributed.is_main():
            values.update(metric.compute())
    return distributed.broadcast_object(values)


def change(section: Any, **values: Any) -> Any:
    """A frozen section with some fields replaced; None leaves a field as it is."""
    return dataclasses.replace(section, **{name: value for name, value in values.items() if value is not None})
