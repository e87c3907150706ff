"""What `python -m fastdet.tools.overfit` does: a config and a handful of pictures become a figure."""

import argparse
import io
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from fastdet import build
from fastdet.compat import load_experiment
from fastdet.config.schema import Checkpoints, Data, DataSplit, Experiment, Loop, Optimizer, Runtime
from fastdet.data.datasets.base import Dataset
from fastdet.data.loader import Loader
from fastdet.engine.hooks import Hook
from fastdet.engine.runner import Runner
from fastdet.engine.state import TrainState
from fastdet.registry import FrozenDict, Spec
from fastdet.tools.handful import own_pictures, shapes
from fastdet.tools.small import from_scratch, thinned, with_classes
from fastdet.utils.cli import EXIT_OK, EXIT_USER
from fastdet.utils.seed import seed_everything

FIGURES = {
    "coco/bbox_mAP_50": "box AP50",
    "coco/segm_mAP_50": "mask AP50",
    "coco/AR@100": "recall (IoU 0.5)",
}
"""The metrics that count, and how they are printed."""
TESTS = 6
"""Tests of a training without --every."""
CLIP_NORM = 10.0


def run(options: argparse.Namespace) -> int:
    """Trains and tests, and prints the curve; returns the exit code."""
    device = build.choose_device(options.device)
    work_dir = Path(options.work_dir or Path("work_dirs") / "overfit" / Path(options.config).stem)
    experiment = load_experiment(options.config, options.cfg_options)
    build.import_user_parts(experiment)
    if options.images is None:
        dataset = shapes(work_dir / "shapes", options.shapes, options.size)
        model = with_classes(experiment.model, len(dataset.classes))
    else:
        dataset, model = own_pictures(experiment, options.images, options.size), experiment.model
    experiment = _experiment(thinned(from_scratch(model), options.thin), dataset, options)
    build.check_class_count(experiment, dataset)
    seed_everything(options.seed)
    detector = build.build_detector(experiment)
    build.check_fit(detector, ())
    detector = detector.to(device)
    assert experiment.data.train is not None
    loader = build.build_split_loader(dataset, experiment.data.train, detector, seed=options.seed, training=True)
    with_labels = any(build.detector_classes(experiment))
    curve = _Curve(options.target)
    runner = Runner(
        experiment,
        detector=detector,
        train_loader=loader,
        work_dir=work_dir,
        device=device,
        evaluate=lambda epoch: _figures(detector, device, loader, dataset, with_labels=with_labels),
        classes=dataset.classes,
        hooks=(curve,),
        stream=io.StringIO(),
    )
    size = sum(p.numel() for p in detector.parameters()) / 1e6
    objects = sum(len(dataset.record(index).boxes) for index in range(len(dataset)))
    print(f"{len(dataset)} pictures, {objects} objects, {size:.2f} M parameters")
    runner.train()
    print(curve.summary())
    return EXIT_OK if curve.reached else EXIT_USER


def _experiment(model: Spec, dataset: Dataset, options: argparse.Namespace) -> Experiment:
    """The config's detector with a training of a constant learning rate after a warm-up, and nothing else of it."""
    every = options.every or max(1, options.iterations // TESTS)
    warm_up = max(1, options.iterations // 10)
    return Experiment(
        model=model,
        classes=dataset.classes,
        data=Data(train=DataSplit(dataset=Spec.of("handful"), batch_size=options.batch or len(dataset), shuffle=True)),
        optimizer=Optimizer(
            algorithm=Spec.of("AdamW", lr=options.lr, weight_decay=0.0), clip=FrozenDict(max_norm=CLIP_NORM)
        ),
        schedule=(Spec.of("LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up),),
        loop=Loop(unit="iter", length=options.iterations, val_interval=every),
        runtime=Runtime(
            seed=options.seed,
            checkpoints=Checkpoints(interval=options.iterations, unit="iter", save_optimizer=False),
        ),
    )  # fmt: skip


class _Curve(Hook):
    """Prints a line for each test, and ends the training when all figures have reached the target."""

    def __init__(self, target: float) -> None:
        self.target = target
        self.figures: Mapping[str, float] = {}
        self.steps = 0
        self.seconds = 0.0

    @property
    def reached(self) -> bool:
        """Whether the last test gave what was asked for."""
        return bool(self.figures) and min(self.figures.values()) >= self.target

    def before_train(self, state: TrainState) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def after_step(self, state: TrainState) -> None:
        """Looks at a test that has just run."""
        if state.evaluated_step != state.step:
            return
        self.steps, self.seconds = state.step, time.perf_counter() - self._began
        self.figures = {FIGURES[name]: value for name, value in state.metrics.items() if name in FIGURES}
        losses = "  ".join(f"{name} {float(value):.3f}" for name, value in state.log_values.items())
        print(f"{state.step:6d}  {self._text()}  {losses}", flush=True)
        state.should_stop = self.reached

    def summary(self) -> str:
        """The last line."""
        text = f"{self._text()} after {self.steps} iterations, {self.seconds:.0f} s"
        return text if self.reached else f"{text}: below the target of {self.target:g}"

    def _text(self) -> str:
        return ", ".join(f"{name} {value:.2f}" for name, value in self.figures.items())


def _figures(
    detector: nn.Module, device: torch.device, loader: Loader, dataset: Dataset, *, with_labels: bool
) -> dict[str, float]:
    """Average precision of boxes, and of masks if there are any; without labels the recall of proposals."""
    predict = build.predictor(detector, device)
    results = [(predict(batch), batch.metas) for batch in loader.iterate(0)]
    if with_labels:
        with_masks = any(found.masks is not None for instances, _ in results for found in instances)
        spec = Spec.of("CocoMetric", metric=("bbox", "segm") if with_masks else ("bbox",))
    else:
        spec = Spec.of("CocoMetric", metric="proposal_fast", proposal_nums=(100,), iou_thrs=0.5)
    (metric,) = build.build_metrics((spec,), dataset)
    for instances, metas in results:
        metric.update(instances, metas)
    return metric.compute()
