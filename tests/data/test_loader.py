"""Loaders: the same batches for any number of workers and any entry point; errors arrive whole."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdet.config.schema import DataSplit
from fastdet.data.datasets import CocoDataset
from fastdet.data.loader import Loader, build_loader
from fastdet.data.transforms import (
    LoadAnnotations,
    LoadImageFromFile,
    PhotoMetricDistortion,
    RandomCrop,
    RandomFlip,
    RandomResize,
)
from fastdet.registry import Spec
from fastdet.structures import Batch, Sample
from fastdet.utils.errors import DataError

PIPELINE = (
    LoadImageFromFile(),
    LoadAnnotations(with_mask=True),
    PhotoMetricDistortion(),
    RandomResize(scale=[(30, 20), (60, 40)], keep_ratio=True),
    RandomCrop(crop_size=(0.5, 0.5), crop_type="relative_range"),  # gives None for images without objects
    RandomFlip(prob=0.5),
)


def loader(coco_set: Callable, num_workers: int = 0, transforms: Iterable = PIPELINE, **options: Any) -> Loader:
    dataset = CocoDataset(*coco_set(), classes=("dog", "cat"), transforms=tuple(transforms))
    split = DataSplit(
        dataset=Spec.of("CocoDataset"), batch_size=2, num_workers=num_workers, shuffle=True, group_by_aspect_ratio=True
    )
    return build_loader(dataset, split, pad_divisor=8, seed=11, training=True, **options)


def values(batch: Batch) -> list[torch.Tensor]:
    targets = batch.targets
    return [batch.pixels, batch.sizes, *targets[:5], *targets.masks]


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.metas == other.metas
        for a, b in zip(values(one), values(other), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_do_not_change_a_batch(coco_set: Callable, num_workers: int) -> None:
    alone = list(loader(coco_set).iterate(epoch=1))
    assert len(alone) == 3
    assert_same(alone, list(loader(coco_set, num_workers).iterate(epoch=1)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_can_be_entered_at_any_batch(coco_set: Callable, num_workers: int) -> None:
    whole = list(loader(coco_set).iterate(epoch=2))
    for start in range(4):
        assert_same(whole[start:], list(loader(coco_set, num_workers).iterate(epoch=2, start_batch=start)))


def test_epochs_bring_other_chance(coco_set: Callable) -> None:
    first, second = (list(loader(coco_set).iterate(epoch)) for epoch in (0, 1))
    assert any(not torch.equal(a.sizes, b.sizes) for a, b in zip(first, second, strict=True))


def test_the_global_random_states_stay(coco_set: Callable) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (the state that must stay)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    list(loader(coco_set, num_workers=1).iterate())
    list(loader(coco_set).iterate())
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_images_without_objects_are_replaced_by_others(coco_set: Callable) -> None:
    batches = list(loader(coco_set).iterate())
    assert all(int(count) > 0 for batch in batches for count in batch.targets.count)
    assert {meta.image_id for batch in batches for meta in batch.metas} <= {100, 101, 103}


def test_two_processes_see_different_images(coco_set: Callable) -> None:
    plain = (LoadImageFromFile(),)
    ids = [
        [m.image_id for b in loader(coco_set, transforms=plain, rank=rank, world_size=2).iterate() for m in b.metas]
        for rank in range(2)
    ]
    assert [len(part) for part in ids] == [3, 3]
    assert sorted(ids[0] + ids[1]) == [100, 101, 102, 103, 104, 105]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_truncated_image_is_one_error(coco_set: Callable, num_workers: int) -> None:
    _, folder = coco_set()
    path = Path(folder) / "1.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError) as caught:
        list(loader(coco_set_without_writing(coco_set, folder), num_workers, (LoadImageFromFile(),)).iterate())
    assert str(caught.value).startswith(f"{path}: image is truncated")
    assert "Traceback" not in str(caught.value)
    assert "Traceback" in str(caught.value.__cause__)


def coco_set_without_writing(coco_set: Callable, folder: str) -> Callable:
    return lambda: (str(Path(folder) / "instances.json"), folder)


class Broken:
    """A user's transform with a mistake."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        raise IndexError("list index out of range")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_users_mistake_names_transform_and_image(coco_set: Callable, num_workers: int) -> None:
    with pytest.raises(DataError, match=r"\.png: Broken failed: IndexError: list index out of range"):
        list(loader(coco_set, num_workers, (LoadImageFromFile(), Broken())).iterate())


def test_transforms_that_refuse_everything_are_an_error(coco_set: Callable) -> None:
    class Never:
        def __call__(self, sample: Sample, rng: np.random.Generator) -> None:
            return None

    with pytest.raises(DataError, match="the transforms refused 1000 images in a row"):
        list(loader(coco_set, transforms=(Never(),)).iterate())


def test_an_empty_set_is_an_error(coco_set: Callable) -> None:
    dataset = CocoDataset(*coco_set(), classes=("dog", "cat"), min_size=1000)
    with pytest.raises(DataError, match=r"instances\.json: the dataset is empty\n.*dog.*\n.*min_size"):
        build_loader(dataset, DataSplit(dataset=Spec.of("CocoDataset")), pad_divisor=1, seed=0, training=True)


def test_tests_see_each_image_once_in_order(coco_set: Callable) -> None:
    dataset = CocoDataset(*coco_set(), classes=("dog", "cat"), transforms=(LoadImageFromFile(),))
    split = DataSplit(dataset=Spec.of("CocoDataset"), batch_size=4)
    ids = []
    for rank in range(4):
        test_loader = build_loader(dataset, split, pad_divisor=1, seed=0, rank=rank, world_size=4, training=False)
        ids.append([m.image_id for batch in test_loader.iterate() for m in batch.metas])
    assert ids == [[100, 104], [101, 105], [102], [103]]
