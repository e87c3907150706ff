"""What `fastdet test` does: a config and a checkpoint become figures, files, pictures and a report."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fastdet import build
from fastdet.compat import to_experiment
from fastdet.compat.checkpoints import load_checkpoint, stored_config
from fastdet.config.configdict import ConfigDict
from fastdet.config.dump import dump_python
from fastdet.config.file import load_config
from fastdet.config.overrides import parse_overrides
from fastdet.config.schema import Experiment
from fastdet.data.check import check_dataset
from fastdet.data.datasets.base import Dataset
from fastdet.data.images import read_image
from fastdet.deploy.metadata import is_exported
from fastdet.engine import distributed
from fastdet.evaluation.metric import Metric
from fastdet.evaluation.result_files import save_results
from fastdet.registry import Spec
from fastdet.structures import Batch, Instances
from fastdet.training import default_work_dir
from fastdet.utils.environment import collect_environment
from fastdet.utils.errors import ConfigError
from fastdet.utils.files import write_text
from fastdet.utils.logging import forwarded
from fastdet.visualization.draw import draw_instances
from fastdet.visualization.pictures import write_picture
from fastdet.visualization.report import write_report


def run(options: argparse.Namespace) -> None:
    """Evaluates a checkpoint and writes what the options ask for."""
    placement = distributed.find_placement(options.launcher)
    device = build.choose_device(options.device, placement.local_rank)
    config = _config(options)
    experiment = to_experiment(config)
    distributed.start(placement, device, launcher=options.launcher, backend=experiment.runtime.backend)
    tables = sys.stderr if options.json else sys.stdout
    try:
        with forwarded("fastdet.evaluation", lambda record: print(record.getMessage(), file=tables)):
            _run(experiment, config, options, device)
    finally:
        distributed.stop()


def _config(options: argparse.Namespace) -> ConfigDict:
    """The config that is named, or else the one that the checkpoint holds."""
    if options.config is not None:
        return load_config(options.config, options.cfg_options)
    if is_exported(options.checkpoint):
        raise ConfigError(f"{options.checkpoint} holds no config, which names the test set: fastdet test CFG FILE")
    content = load_checkpoint(options.checkpoint, trust=options.trust_checkpoint)
    return stored_config(content, options.cfg_options)


def _source(options: argparse.Namespace) -> str:
    """The file that gave the config."""
    return str(options.config or options.checkpoint)


def _run(experiment: Experiment, config: ConfigDict, options: argparse.Namespace, device: torch.device) -> None:
    data, specs = experiment.data, experiment.test_metrics
    split = data.test
    if options.split == "val" or split is None:
        split, specs = data.val, experiment.val_metrics
    if split is None:
        raise ConfigError(f"the config has no {options.split}_dataloader, so there is nothing to test on")
    if options.batch_size is not None:
        split = dataclasses.replace(split, batch_size=options.batch_size)
    build.import_user_parts(experiment)
    dataset = build.build_dataset(split)
    for report in check_dataset(dataset):
        report.raise_errors()
    build.check_class_count(experiment, dataset)
    specs = tuple(_with_options(spec, options) for spec in specs)
    if not specs:
        raise ConfigError("the config has no test_evaluator, so there is nothing to compute or to write")
    detector, predict, known = _runnable(experiment, specs, options, device)
    if known and known != dataset.classes:
        print(
            f"warning: the checkpoint was trained on other class names than the dataset has:\n  checkpoint {known}\n"
            f"  dataset    {dataset.classes}\n  labels are compared by their order, not by their names",
            file=sys.stderr,
        )
    loader = build.build_split_loader(dataset, split, detector, seed=0, training=False)
    metrics = build.build_metrics(specs, dataset)
    values = build.evaluate(predict, loader, metrics, _drawer(dataset, options) if options.show_dir else None)
    if distributed.is_main():
        _write(values, metrics, options)
        if options.report:
            _report(values, metrics, dataset, config, options)


def _runnable(
    experiment: Experiment, specs: Sequence[Spec], options: argparse.Namespace, device: torch.device
) -> tuple[Any, Callable[[Batch], list[Instances]], tuple[str, ...]]:
    """The detector of a checkpoint or of an exported file, its predictions in file pixels, and its class names."""
    if is_exported(options.checkpoint):
        deployed = build.load_exported(options.checkpoint, options.device)
        return deployed, deployed.predict_instances, deployed.classes
    detector = build.build_detector(experiment)
    build.check_fit(detector, specs)
    known = build.load_weights(detector, options.checkpoint, trust=options.trust_checkpoint)
    detector = detector.to(device).eval()
    return detector, build.predictor(detector, device), known


def _with_options(spec: Spec, options: argparse.Namespace) -> Spec:
    """The metric's Spec with --eval, --format-only and --eval-options, in the names of both dialects."""
    changes: dict[str, object] = {".".join(o.keys): o.value for o in parse_overrides(options.eval_options)}
    if "jsonfile_prefix" in changes:
        changes["outfile_prefix"] = changes.pop("jsonfile_prefix")
    if options.eval:
        changes["metric"] = tuple(options.eval)
    if options.format_only:
        changes["format_only"] = True
        prefix = Path(options.work_dir or default_work_dir(_source(options))) / "results"
        changes.setdefault("outfile_prefix", spec.args.get("outfile_prefix") or str(prefix))
    return spec.replace(**changes)


def _drawer(dataset: Dataset, options: argparse.Namespace) -> Callable[[Batch, list[Instances]], None]:
    """Draws each batch's detections into --show-dir."""

    def draw(batch: Batch, instances: list[Instances]) -> None:
        for meta, found in zip(batch.metas, instances, strict=True):
            picture = draw_instances(
                read_image(meta.path), found, dataset.classes, score_threshold=options.show_score_thr
            )
            write_picture(Path(options.show_dir) / f"{Path(meta.path).stem}.jpg", picture)

    return draw


def _write(values: dict[str, float], metrics: list[Metric], options: argparse.Namespace) -> None:
    """Prints the figures, and writes them and the detections."""
    if options.json:
        print(json.dumps(values))
    else:
        for name, value in values.items():
            print(f"{name:<28}{value:.4f}")
    stamp = time.strftime("%Y%m%d_%H%M%S")
    work_dir = Path(options.work_dir or default_work_dir(_source(options)))
    write_text(work_dir / stamp / f"{stamp}.json", json.dumps(values, indent=2) + "\n")
    if options.out:
        path = save_results(metrics[0].results, options.out)
        print(f"detections -> {path}", file=sys.stderr)


def _report(
    values: dict[str, float], metrics: list[Metric], dataset: Dataset, config: ConfigDict, options: argparse.Namespace
) -> None:
    """Writes the report, with the curves of the training that wrote the checkpoint if its log lies beside it."""
    logs = sorted(Path(options.checkpoint).parent.glob("*/vis_data/scalars.json"))
    facts = collect_environment().to_dict()
    packages = facts.pop("packages")
    environment = {
        name: "; ".join(value) if isinstance(value, tuple) else value
        for name, value in {**facts, **packages}.items()
        if value
    }
    path = write_report(
        options.report,
        title=f"{Path(_source(options)).stem}: {Path(options.checkpoint).name}",
        metrics=values,
        classes=dataset.classes,
        records=[dataset.record(index) for index in range(len(dataset))],
        results=metrics[0].results,
        curves=metrics[0].curves,
        log_file=logs[-1] if logs else None,
        environment=environment,
        config=dump_python(config),
    )
    print(f"report -> {path}", file=sys.stderr)
