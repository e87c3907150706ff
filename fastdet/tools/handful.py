"""A handful of pictures to overfit: generated ones, or the first ones of a config's own training set."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fastdet import build
from fastdet.config.schema import DataSplit, Experiment
from fastdet.data.datasets.base import Dataset, RecordDataset
from fastdet.data.masks import polygons_to_bitmap
from fastdet.data.shapes import SHAPE_CLASSES, ShapesConfig, write_shapes
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError

SHIFTED, ANYWHERE = 24, 64
"""Proposals for detectors without a first stage: of each object, and of each picture."""
LOADERS = ("LoadImageFromFile", "LoadAnnotations")
LARGEST = 0.55
"""The longest side of a generated object, as a share of the picture's; the shortest is 20 pixels of 128."""


def shapes(folder: Path, count: int, size: int) -> Dataset:
    """Generated pictures with boxes, masks, semantic maps and proposals.

    Raises:
        ValueError: pictures too small for any object.
    """
    sides = {"min_side": size * 20 // 128, "max_side": round(size * LARGEST)}
    files = write_shapes(folder, ShapesConfig(num_train=count, num_val=0, image_size=size, **sides))
    _write_maps(folder, files["train"])
    spec = Spec.of(
        "CocoDataset", ann_file=str(files["train"]), image_dir=str(folder / "train"), classes=SHAPE_CLASSES,
        seg_dir=str(folder / "maps"),
        transforms=(Spec.of("LoadImageFromFile"), Spec.of("LoadAnnotations", with_mask=True, with_seg=True)),
    )  # fmt: skip
    return _with_proposals(build.build_dataset(DataSplit(dataset=spec)))


def own_pictures(experiment: Experiment, count: int, size: int) -> Dataset:
    """The first pictures with objects of the config's training set, squeezed into squares, without augmentation.

    Raises:
        ConfigError: the config has no training set, or one whose pictures cannot be chosen.
    """
    split = experiment.data.train
    if split is None:
        raise ConfigError("--images: the config has no train_dataloader; leave it out to use generated pictures")
    leaf = next(build.leaf_datasets(split.dataset))
    steps = tuple(step for step in _leaf_steps(split.dataset) if step.type in LOADERS)
    if len(steps) < len(LOADERS):
        raise ConfigError(f"--images: the training pipeline needs {' and '.join(LOADERS)}")
    resize = Spec.of("Resize", scale=(size, size), keep_ratio=False)
    dataset = build.build_dataset(DataSplit(dataset=leaf.replace(transforms=(*steps, resize))))
    if not isinstance(dataset, RecordDataset):
        raise ConfigError(f"--images: pictures of a {leaf.type} cannot be chosen; leave it out to use generated ones")
    used = [i for i in range(len(dataset)) if not dataset.record(i).ignore.all()][:count]
    if len(used) < count:
        raise ConfigError(f"--images {count}: the training set has {len(used)} pictures with objects")
    dataset.rows = dataset.rows[used]
    return _with_proposals(dataset)


def _leaf_steps(dataset: Spec) -> Sequence[Spec]:
    """The transforms of the innermost dataset; those that load may also stand in a wrapper."""
    steps = dataset.args.get("transforms", ())
    inner = dataset.args.get("dataset", dataset.args.get("datasets"))
    first = inner[0] if isinstance(inner, tuple) else inner
    return (*_leaf_steps(first), *steps) if isinstance(first, Spec) else steps


def _write_maps(folder: Path, annotations: Path) -> None:
    """A map for each picture: the class of every pixel, with the background as one more class."""
    content = json.loads(annotations.read_text())
    (folder / "maps").mkdir(exist_ok=True)
    for image in content["images"]:
        size = image["height"], image["width"]
        classes = np.full(size, len(SHAPE_CLASSES), np.uint8)
        for item in (a for a in content["annotations"] if a["image_id"] == image["id"]):
            classes[polygons_to_bitmap([np.array(p) for p in item["segmentation"]], size) > 0] = item["category_id"] - 1
        cv2.imwrite(str(folder / "maps" / image["file_name"]), classes)


def _with_proposals(dataset: Dataset) -> Dataset:
    """The dataset with boxes around its objects, shifted and resized by chance, and boxes anywhere."""
    assert isinstance(dataset, RecordDataset)
    rng = np.random.default_rng(0)
    proposals = [np.zeros((0, 4), np.float32)] * len(dataset.table)
    for index, row in enumerate(dataset.rows):
        record = dataset.record(index)
        near = record.boxes.repeat(SHIFTED, axis=0)
        sides = np.tile(near[:, 2:] - near[:, :2], 2)
        near = near + rng.uniform(-0.2, 0.2, size=near.shape) * sides
        low, high = np.sort(rng.uniform(0, 1, size=(2, ANYWHERE, 2)), axis=0)
        limits = np.array([record.width, record.height] * 2)
        boxes = np.concatenate([near, np.concatenate([low, high], axis=1) * limits])
        proposals[row] = np.clip(boxes, 0, limits).astype(np.float32)
    dataset.table.proposals = proposals
    return dataset
