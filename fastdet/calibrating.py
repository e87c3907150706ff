"""The pictures that an int8 export is calibrated with: of a folder, or of the config's training set."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastdet import build
from fastdet.config.schema import Experiment
from fastdet.data.collate import collate
from fastdet.data.pipeline import prepare
from fastdet.deploy.graph import GraphOptions
from fastdet.utils.errors import FastdetError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class Calibration:
    """Inputs of a graph, of pictures after the test transforms.

    Args:
        experiment: whose test transforms, and training set, are used.
        graph: what the inputs are for.
        folder: of pictures; None: the training set's.
        number: of pictures at most, spread over all there are.

    Raises:
        FastdetError: there are no pictures.
    """

    def __init__(self, experiment: Experiment, graph: GraphOptions, folder: str | None, number: int) -> None:
        self.graph = graph
        self.transforms = build.test_transforms(experiment)
        paths = _of_folder(folder) if folder is not None else _of_training_set(experiment)
        self.paths = [paths[int(i)] for i in np.linspace(0, len(paths) - 1, min(number, len(paths)))]
        next(iter(self))  # what does not fit is said before the work begins

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Inputs by name, one picture at a time. Pictures that the graph cannot hold are left out."""
        some = False
        for path in self.paths:
            sample = prepare(path, self.transforms)
            height, width = sample.image.shape[:2]
            held = height <= self.graph.shape[0] and width <= self.graph.shape[1]
            if not held or (self.graph.whole_images and (height, width) != self.graph.shape):
                continue
            some = True
            batch = collate([sample], fixed_size=self.graph.shape)
            pixels = batch.pixels.numpy()
            if self.graph.layout == "hwc":
                pixels = pixels.transpose(0, 2, 3, 1)
            images = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
            yield {"images": np.ascontiguousarray(images), "sizes": batch.sizes.numpy().astype(np.int32)}
        if not some:
            height, width = self.graph.shape
            raise FastdetError(
                f"--precision int8: none of {len(self.paths)} pictures fits --shape {height} {width} after the test "
                "transforms; give a shape that holds them"
            )


def of_options(experiment: Experiment, graph: GraphOptions, options: argparse.Namespace) -> Calibration | None:
    """What the options of `fastdet export` ask for; None where nothing is calibrated."""
    if options.precision != "int8":
        if options.calibration is not None:
            raise FastdetError(f"--calibration is for --precision int8, not {options.precision}")
        return None
    return Calibration(experiment, graph, options.calibration, options.calibration_pictures)


def _of_folder(folder: str) -> list[str]:
    found = sorted(str(p) for p in Path(folder).glob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise FastdetError(f"--calibration {folder}: no pictures there ({', '.join(SUFFIXES)})")
    return found


def _of_training_set(experiment: Experiment) -> list[str]:
    """The files of the training set."""
    advice = "give a folder of typical pictures: --calibration DIR"
    split = experiment.data.train
    if split is None:
        raise FastdetError(
            f"--precision int8 needs pictures to calibrate with, and the config has no training set; {advice}"
        )
    try:
        leaf = next(build.leaf_datasets(split.dataset))
        dataset = build.build_dataset(replace(split, dataset=leaf))
        found = [dataset.record(i).path for i in range(len(dataset))]
    except (FastdetError, OSError) as problem:
        reason = str(problem).splitlines()[0]
        raise FastdetError(
            f"--precision int8 cannot read the training set to calibrate with: {reason}; {advice}"
        ) from problem
    if not found or not Path(found[0]).is_file():
        raise FastdetError(f"--precision int8: the training set's pictures are missing, such as {found[:1]}; {advice}")
    return found
