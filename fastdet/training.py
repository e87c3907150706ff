"""What `fastdet train` does: its options and a config become a Runner."""

import argparse
import dataclasses
import logging
import time
from pathlib import Path

import torch

from fastdet import build
from fastdet.compat import load_experiment
from fastdet.compat.data import with_annotations
from fastdet.config.dump import dump_python
from fastdet.config.file import load_config
from fastdet.config.schema import Experiment
from fastdet.data.check import check_dataset
from fastdet.data.datasets.base import Dataset
from fastdet.engine import distributed
from fastdet.engine.checkpoint import checkpoint_to_resume, resumed_seed
from fastdet.engine.runner import Runner
from fastdet.utils.environment import collect_environment
from fastdet.utils.errors import CheckpointError, ConfigError
from fastdet.utils.logging import FILE_ONLY, forwarded
from fastdet.utils.seed import choose_seed, seed_everything
from fastdet.visualization.draw import class_colors


def default_work_dir(config: str) -> str:
    """work_dirs/<config name>, as MMDetection has it."""
    return str(Path("work_dirs") / Path(config).stem)


def apply_options(experiment: Experiment, options: argparse.Namespace, device: torch.device) -> Experiment:
    """The experiment with what the command line says instead of what the config says."""
    resume = options.resume or options.resume_from or ("auto" if options.auto_resume else None)
    runtime = build.change(
        experiment.runtime,
        work_dir=options.work_dir,
        load_from=resume if resume not in (None, "auto") else options.load_from,
        reinit_head=options.reinit_head or None,
        resume=True if resume else (False if options.load_from else None),
        seed=options.seed,
        deterministic=options.deterministic or None,
        auto_scale_lr=options.auto_scale_lr or None,
        val_loss=options.val_loss or None,
    )
    if resume == "auto":
        runtime = dataclasses.replace(runtime, load_from=None)
    if runtime.work_dir is None:
        runtime = dataclasses.replace(runtime, work_dir=default_work_dir(options.config))
    data, optimizer = experiment.data, experiment.optimizer
    if runtime.val_loss and data.train is not None:
        if data.val is None or options.no_validate:
            raise ConfigError("the validation loss needs a validation set: val_dataloader, without --no-validate")
        data = dataclasses.replace(data, val=with_annotations(data.val, data.train))
    if optimizer is not None and (options.amp or options.bf16):
        in_bf16 = options.bf16 or device.type == "cpu"
        optimizer = dataclasses.replace(optimizer, amp="bf16" if in_bf16 else "fp16")
    return dataclasses.replace(experiment, runtime=runtime, data=data, optimizer=optimizer)


def check_before_training(name: str, dataset: Dataset) -> list[tuple[str, str]]:
    """Checks a dataset; returns lines of counts and warnings for the start block.

    Raises:
        DataError: faults that would spoil a training.
    """
    facts = []
    for report in check_dataset(dataset):
        report.raise_errors()
        counts = ", ".join(f"{value} {what}" for what, value in report.counts.items())
        facts.append((name, f"{report.title}: {counts}"))
        facts += [
            (
                "",
                f"warning: {text} ({found.count}x), e.g. {found.examples[0]}" if found.examples else f"warning: {text}",
            )
            for text, found in report.warnings.items()
        ]
    return facts


def run(options: argparse.Namespace) -> None:
    """Trains, or with --dry-run builds everything and runs one batch."""
    device = build.choose_device(options.device, distributed.find_placement(options.launcher).local_rank)
    experiment = apply_options(load_experiment(options.config, options.cfg_options), options, device)
    distributed.start(
        distributed.find_placement(options.launcher), device, launcher=options.launcher,
        backend=experiment.runtime.backend,
    )  # fmt: skip
    try:
        runner = build_runner(experiment, options, device)
        if options.dry_run:
            losses = runner.dry_run()
            print("one batch: " + "  ".join(f"{name} {value:.4f}" for name, value in losses.items()))
            print("dry run: everything was built, nothing was written")
        else:

            def log(record: logging.LogRecord) -> None:
                is_table = record.levelno < logging.WARNING
                runner.state.logger.log(record.levelno, record.getMessage(), extra=FILE_ONLY if is_table else None)

            with forwarded("fastdet.evaluation", log):
                runner.train()
    finally:
        distributed.stop()


def build_runner(experiment: Experiment, options: argparse.Namespace, device: torch.device) -> Runner:
    """The Runner of an experiment, its data checked and its weights loaded."""
    train_split, val_split = experiment.data.train, experiment.data.val
    if train_split is None:
        raise ConfigError("the config has no train_dataloader, so there is nothing to train on")
    work_dir = Path(str(experiment.runtime.work_dir))
    checkpoint = distributed.broadcast_object(checkpoint_to_resume(experiment.runtime, work_dir))
    if checkpoint is not None and not checkpoint.is_file():
        raise CheckpointError(f"there is no checkpoint {checkpoint} to resume from")
    continues = checkpoint is not None
    seed = experiment.runtime.seed
    if seed is None:
        old_seed = resumed_seed(experiment.runtime, work_dir)
        seed = distributed.broadcast_object(choose_seed() if old_seed is None else old_seed)
        experiment = dataclasses.replace(experiment, runtime=dataclasses.replace(experiment.runtime, seed=seed))
    began = time.perf_counter()
    build.import_user_parts(experiment)
    train_set = build.build_dataset(train_split)
    facts = [("config", options.config)]
    if not options.no_check and distributed.is_main():
        facts += check_before_training("train data", train_set)
    experiment = dataclasses.replace(experiment, classes=experiment.classes or train_set.classes)
    build.check_class_count(experiment, train_set)
    seed_everything(seed)
    detector = build.build_detector(experiment, load_pretrained=not continues)
    build.check_fit(detector, () if options.no_validate else experiment.val_metrics)
    if experiment.runtime.load_from and not continues:
        loaded = build.start_from(
            detector, experiment.runtime.load_from,
            reinit_head=experiment.runtime.reinit_head, trust=options.trust_checkpoint,
        )  # fmt: skip
        facts.append(("weights", f"{experiment.runtime.load_from}: {loaded}"))
    detector = detector.to(device)
    train_loader = build.build_split_loader(train_set, train_split, detector, seed=seed, training=True)
    evaluate = val_loader = None
    if val_split is not None and not options.no_validate:
        val_set = build.build_dataset(val_split)
        if val_set.classes != train_set.classes:
            raise ConfigError(
                f"the training and the validation set have other classes:\n  train {train_set.classes}\n"
                f"  val   {val_set.classes}\n  fix: the same metainfo=dict(classes=...) in both"
            )
        if not options.no_check and distributed.is_main():
            facts += check_before_training("val data", val_set)
        val_loader = build.build_split_loader(val_set, val_split, detector, seed=seed, training=False)
        if experiment.val_metrics:
            metrics = build.build_metrics(experiment.val_metrics, val_set)
            # In full precision, also with --amp: the figures are those that `fastdet test` gives for the checkpoint.
            predict = build.predictor(detector, device)

            def evaluate(epoch: int) -> dict[str, float]:
                return build.evaluate(predict, val_loader, metrics)

    facts.append(("ready", f"in {time.perf_counter() - began:.1f} s"))
    return Runner(
        experiment,
        detector=detector,
        train_loader=train_loader,
        work_dir=work_dir,
        device=device,
        evaluate=evaluate,
        val_loader=val_loader,
        config_text=dump_python(load_config(options.config, options.cfg_options)),
        classes=experiment.classes,
        palette=[color[::-1] for color in class_colors(len(experiment.classes))],
        facts=facts,
        environment=collect_environment().to_dict(),
        minutes=10.0,
    )
