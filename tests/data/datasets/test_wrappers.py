"""Repeated and concatenated datasets."""

from collections.abc import Callable

import numpy as np
import pytest

from fastdet.data.datasets import CocoDataset, ConcatDataset, RepeatDataset
from fastdet.registry import DATASETS, TRANSFORMS, Spec, build
from fastdet.utils.errors import DataError


@pytest.fixture
def dataset(coco_set: Callable) -> CocoDataset:
    return CocoDataset(*coco_set(), classes=("dog", "cat"))


def test_repeating_wraps_around(dataset: CocoDataset) -> None:
    repeated = RepeatDataset(dataset, times=3)
    assert len(repeated) == 18
    assert [repeated.record(i).image_id for i in (0, 6, 17)] == [100, 100, 105]
    assert repeated.aspect_ratio(7) == dataset.aspect_ratio(1)
    assert repeated.classes == ("dog", "cat")
    with pytest.raises(IndexError):
        repeated.record(18)


def test_concatenation_keeps_the_order(dataset: CocoDataset) -> None:
    joined = ConcatDataset([RepeatDataset(dataset, times=2), dataset])
    assert len(joined) == 18
    assert [joined.record(i).image_id for i in (0, 11, 12, 17)] == [100, 105, 100, 105]
    with pytest.raises(IndexError):
        joined.record(-1)


def test_different_classes_cannot_be_joined(dataset: CocoDataset, coco_set: Callable) -> None:
    with pytest.raises(DataError, match="classes of dataset 1 differ"):
        ConcatDataset([dataset, CocoDataset(*coco_set(), classes=("cat", "dog"))])


def test_nested_specs_are_built(coco_set: Callable, rng: np.random.Generator) -> None:
    import fastdet.data.transforms  # noqa: F401  (registers)

    ann_file, image_dir = coco_set()
    leaf = Spec.of(
        "CocoDataset", ann_file=ann_file, image_dir=image_dir, classes=("dog", "cat"),
        transforms=(Spec.of("LoadImageFromFile"), Spec.of("Resize", scale=(20, 15), keep_ratio=True)),
    )  # fmt: skip
    spec = Spec.of("RepeatDataset", times=2, dataset=Spec.of("ConcatDataset", datasets=(leaf, leaf)))
    built = build(spec, (DATASETS, TRANSFORMS))
    assert len(built) == 24
    assert built.sample(13, rng).image.shape == (15, 20, 3)
