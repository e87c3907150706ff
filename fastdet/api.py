"""The Python API: a detector ready to use, from a config and a checkpoint to results in file pixels."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fastdet.build import (
    build_detector,
    choose_device,
    load_exported,
    load_weights,
    test_transforms,
)
from fastdet.compat import load_experiment, to_experiment
from fastdet.compat.checkpoints import load_checkpoint, stored_config
from fastdet.config.schema import Experiment
from fastdet.data.collate import collate
from fastdet.data.images import read_image
from fastdet.data.pipeline import Image, Transform, prepare
from fastdet.data.sources import Frame, frames
from fastdet.deploy.metadata import is_exported
from fastdet.models.results import to_instances
from fastdet.structures import Result
from fastdet.utils.errors import ConfigError
from fastdet.utils.files import write_text
from fastdet.visualization.draw import draw_instances
from fastdet.visualization.pictures import write_picture
from fastdet.visualization.predictions import result_to_json

if TYPE_CHECKING:
    from fastdet.deploy import BucketedDetector, DeployedDetector


class Detector:
    """A trained detector with its transforms and class names.

    Args:
        module: the network, in evaluation mode on its device.
        transforms: what happens to a picture before the network.
        classes: names in label order.
        experiment: what it was built from.
    """

    def __init__(
        self, module: nn.Module, transforms: Sequence[Transform], classes: Sequence[str], experiment: Experiment
    ) -> None:
        self.module = module
        self.transforms = tuple(transforms)
        self.classes = tuple(classes)
        self.experiment = experiment

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.module.parameters()).device

    @torch.inference_mode()
    def predict(self, images: Sequence[Image], batch_size: int | None = None) -> list[Result]:
        """Detects the objects of each picture; boxes and masks are in the picture's own pixels, on the CPU.

        Pictures of a batch are padded to a common size, which changes scores in the last digits against a batch of one.

        Args:
            batch_size: pictures at once; None takes all in one batch.

        Raises:
            DataError: a picture cannot be read.
        """
        samples = (prepare(image, self.transforms, index) for index, image in enumerate(images))
        results = []
        for chunk in _chunks(samples, batch_size or max(1, len(images))):
            batch = collate(chunk, pad_divisor=self.module.preprocess.pad_divisor)  # type: ignore[union-attr, arg-type]
            detections = self.module.predict(batch.to(self.device))  # type: ignore[operator]
            instances = to_instances(detections, batch.metas, getattr(self.module, "mask_threshold", 0.5))
            results += [Result(found, meta) for found, meta in zip(instances, batch.metas, strict=True)]
        return results


def init_detector(
    config: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | None = None,
    cfg_options: Sequence[str] = (),
    *,
    trust_checkpoint: bool = False,
) -> Detector:
    """A detector from a config file and a checkpoint, in evaluation mode.

    Args:
        config: any config that fastdet reads; Python configs run code. None takes the one that the checkpoint holds,
            whose text is read, not run.
        checkpoint: a file or a known name; None leaves the weights random. Its class names count, if it holds them.
        device: "cpu", "cuda", "cuda:0", ...; None takes CUDA where there is one.
        cfg_options: overrides such as "model.test_cfg.rcnn.score_thr=0.3".
        trust_checkpoint: unpickle whatever the checkpoint holds, which runs its code.

    Raises:
        ConfigError, UnsupportedConfig, CheckpointError: with what to do about it.
    """
    content = None if checkpoint is None else load_checkpoint(checkpoint, trust=trust_checkpoint)
    if config is not None:
        experiment = load_experiment(os.fspath(config), cfg_options)
    elif content is not None:
        experiment = to_experiment(stored_config(content, cfg_options))
    else:
        raise ConfigError("init_detector needs a config, or a checkpoint that holds one")
    where = choose_device(device)
    module = build_detector(experiment)
    classes = experiment.classes
    if content is not None:
        classes = load_weights(module, content) or classes
    module.classes = classes  # type: ignore[assignment]
    return Detector(module.to(where).eval(), test_transforms(experiment), classes, experiment)


def inference_detector(model: Detector, images: Image | Sequence[Image]) -> Result | list[Result]:
    """Detects objects: one Result for a picture, a list for a list or tuple of pictures.

    A Result has `pred_instances` with `bboxes`, `scores`, `labels` and, from mask detectors, `masks`.
    """
    if isinstance(images, list | tuple):
        return model.predict(images)
    return model.predict([images])[0]  # type: ignore[list-item]


def predict_source(options: argparse.Namespace) -> None:
    """Runs `fastdet predict`: pictures into <out-dir>/vis, JSON into <out-dir>/preds."""
    detector = _named_detector(options)
    out = Path(options.out_dir)
    found, names = 0, set[str]()
    for chunk in _chunks(frames(options.source), options.batch_size):
        for frame, result in zip(chunk, detector.predict([f.image for f in chunk]), strict=True):
            name = str(Path(frame.name).with_suffix(""))
            name = frame.name if name in names else name  # a.png beside a.jpg
            names.add(name)
            found += _write(name, frame, result, detector.classes, out, options)
        if sys.stderr.isatty():
            print(f"\r{len(names)} pictures, {found} objects", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(f"{found} objects of score >= {options.score_thr:g} in {len(names)} pictures -> {out}")


def _named_detector(options: argparse.Namespace) -> "Detector | DeployedDetector | BucketedDetector":
    """The exported detector, or that of a config and a checkpoint."""
    if is_exported(options.checkpoint):
        return load_exported(options.checkpoint, options.device)
    return init_detector(
        options.config,
        options.checkpoint,
        options.device,
        options.cfg_options,
        trust_checkpoint=options.trust_checkpoint,
    )


def _write(
    name: str, frame: Frame, result: Result, classes: Sequence[str], out: Path, options: argparse.Namespace
) -> int:
    instances = result.pred_instances
    chosen = instances[instances.scores >= options.score_thr]
    if not options.no_save_pred:
        write_text(out / "preds" / f"{name}.json", json.dumps(result_to_json(chosen)))
    if not options.no_save_vis:
        image = frame.image if isinstance(frame.image, np.ndarray) else read_image(frame.image)
        write_picture(out / "vis" / f"{name}.jpg", draw_instances(image, chosen, classes))
    return len(chosen)


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
