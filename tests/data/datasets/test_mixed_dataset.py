"""Mixed, balanced and repeated datasets, and that mixing depends on seed, epoch and position alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fastdet.config.schema import DataSplit
from fastdet.data.datasets import ClassBalancedDataset, CocoDataset, MultiImageMixDataset
from fastdet.data.loader import Loader, build_loader
from fastdet.data.pipeline import run_transforms, sample_of_array
from fastdet.data.transforms import (
    CachedMixUp,
    CachedMosaic,
    LoadAnnotations,
    LoadImageFromFile,
    MixUp,
    Mosaic,
    RandomAffine,
    RandomFlip,
    Resize,
)
from fastdet.registry import Spec
from fastdet.utils.errors import DataError

LOAD = (LoadImageFromFile(), LoadAnnotations())
MIX = (Mosaic((30, 30)), RandomAffine(border=(-15, -15)), MixUp((30, 30)), RandomFlip(0.5))


def mixed(coco_set: Callable, num_workers: int = 0) -> Loader:
    inner = CocoDataset(*coco_set(), classes=("dog", "cat"), transforms=LOAD)
    return loader(MultiImageMixDataset(inner, MIX), num_workers)


def cached(coco_set: Callable, num_workers: int = 0) -> Loader:
    steps = (*LOAD, CachedMosaic((30, 30)), Resize((40, 40)), CachedMixUp((40, 40)))
    return loader(CocoDataset(*coco_set(), classes=("dog", "cat"), transforms=steps), num_workers)


def loader(dataset: CocoDataset | MultiImageMixDataset, num_workers: int) -> Loader:
    split = DataSplit(dataset=Spec.of("X"), batch_size=2, num_workers=num_workers, shuffle=True)
    return build_loader(dataset, split, pad_divisor=1, seed=5, training=True)


@pytest.mark.parametrize("make", [mixed, cached])
def test_neither_workers_nor_the_way_there_change_a_mixed_batch(coco_set: Callable, make: Callable) -> None:
    whole = list(make(coco_set).iterate(epoch=1))
    assert all(batch.pixels.shape[2:] in ((30, 30), (40, 40)) for batch in whole)
    resumed = list(make(coco_set, num_workers=2).iterate(epoch=1, start_batch=1))
    assert len(resumed) == 2
    for one, other in zip(whole[1:], resumed, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.targets.boxes, other.targets.boxes)
    again = list(make(coco_set).iterate(epoch=2))
    assert not torch.equal(again[0].pixels, whole[0].pixels)


def test_transforms_can_be_left_out_and_changed_on_the_way(coco_set: Callable) -> None:
    inner = CocoDataset(*coco_set(), classes=("dog", "cat"), transforms=LOAD)
    dataset = MultiImageMixDataset(inner, MIX, skip_type_keys=("RandomFlip",))
    dataset.leave_out(("Mosaic", "MixUp", "RandomAffine"))
    sample = dataset.sample(1, np.random.default_rng(0))
    plain = inner.sample(1, np.random.default_rng(0))
    np.testing.assert_array_equal(sample.image, plain.image)
    inner.change_transforms((*LOAD, Resize((8, 6))))
    assert dataset.sample(1, np.random.default_rng(0)).image.shape == (6, 8, 3)
    dataset.change_transforms((Resize((4, 4)),))
    assert dataset.sample(1, np.random.default_rng(0)).image.shape == (4, 4, 3)


def test_a_picture_without_a_dataset_cannot_be_mixed() -> None:
    sample = sample_of_array(np.zeros((4, 4, 3), np.uint8), path="a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: Mosaic failed: ValueError: it mixes images of a dataset"):
        run_transforms((Mosaic(),), sample, np.random.default_rng(0))


def test_rare_classes_come_more_often(coco_set: Callable) -> None:
    # Of 6 images one has dogs alone (100), one both (101), one cats alone (103), three nothing.
    inner = CocoDataset(*coco_set(), classes=("dog", "cat"))
    labels = [set(inner.record(i).labels.tolist()) for i in range(6)]
    assert labels == [{0}, {0, 1}, set(), {1}, set(), set()]
    # A class in 2 of 6 images asks for sqrt(1 / (1 / 3)) = 1.73 times.
    balanced = ClassBalancedDataset(inner, oversample_thr=1.0)
    assert [balanced.record(i).image_id for i in range(len(balanced))] == [100, 100, 101, 101, 102, 103, 103, 104, 105]
    assert len(ClassBalancedDataset(inner, oversample_thr=1 / 3)) == 6
    # Images without objects are half of the set: sqrt(2) = 1.41 times.
    assert len(ClassBalancedDataset(inner, oversample_thr=1.0, filter_empty_gt=False)) == 12
