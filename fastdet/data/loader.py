"""Batches of an epoch, read by any number of worker processes, resumable at any batch."""

import signal
import traceback
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils import data

from fastdet.config.schema import DataSplit
from fastdet.structures import Batch, Sample
from fastdet.utils.errors import DataError, FastdetError

from .collate import collate
from .datasets.base import Dataset
from .pipeline import Step
from .sampler import BatchSampler, Draw, sample_rng


class _Failure(NamedTuple):
    """An exception on its way from a worker; torch would wrap it in the text of two tracebacks."""

    error: FastdetError
    details: str


class _EpochView(data.Dataset):
    """The dataset as one epoch sees it: items are Draws."""

    def __init__(self, dataset: Dataset, seed: int, epoch: int) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, epoch

    def __getitem__(self, draw: Draw) -> Sample | _Failure:
        try:
            return self.dataset.sample(draw.image, sample_rng(self.seed, self.epoch, draw.position))
        except FastdetError as problem:
            return _Failure(problem, traceback.format_exc())
        except Exception as problem:
            error = DataError(f"image {draw.image} of the dataset failed: {type(problem).__name__}: {problem}")
            return _Failure(error, traceback.format_exc())


def _collate_or_fail(
    samples: Sequence[Sample | _Failure], *, pad_divisor: int, fixed_size: tuple[int, int] | None
) -> Batch | _Failure:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, _Failure):
            return sample
        good.append(sample)
    try:
        return collate(good, pad_divisor=pad_divisor, fixed_size=fixed_size)
    except FastdetError as problem:
        return _Failure(problem, traceback.format_exc())


def _start_worker(worker_id: int) -> None:
    # Each worker is one of many: OpenCV's own threads would fight over the cores.
    cv2.setNumThreads(0)
    # Ctrl-C and schedulers signal the whole process group. The main process decides what follows: it must be able to
    # finish its step and save, so its workers live until it closes them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Loader:
    """The batches of a split for one process. Built by `build_loader`."""

    def __init__(
        self,
        dataset: Dataset,
        sampler: BatchSampler,
        *,
        num_workers: int,
        pad_divisor: int,
        fixed_size: tuple[int, int] | None,
        pin_memory: bool,
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._collate = partial(_collate_or_fail, pad_divisor=pad_divisor, fixed_size=fixed_size)

    def __len__(self) -> int:
        return len(self.sampler)

    def leave_out(self, names: Collection[str]) -> None:
        """Drops the dataset's transforms of these names, from the next epoch that is entered on."""
        self.dataset.leave_out(names)

    def change_transforms(self, transforms: Sequence[Step]) -> None:
        """Gives the dataset other transforms, from the next epoch that is entered on."""
        self.dataset.change_transforms(transforms)

    def iterate(self, epoch: int = 0, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start_batch` on.

        They are the same, bit for bit, for any number of workers and wherever the epoch is entered, because a sample's
        chance comes from the seed, the epoch and its position alone. The global random states are not touched.

        Raises:
            DataError: an image or annotation could not be used; the message names the file.
        """
        batches = self.sampler.batches(epoch)[start_batch:]
        if not batches:
            return
        loader: data.DataLoader[Batch | _Failure] = data.DataLoader(
            _EpochView(self.dataset, self.sampler.seed, epoch),
            batch_sampler=batches,
            num_workers=min(self.num_workers, len(batches)),
            collate_fn=self._collate,
            pin_memory=self.pin_memory,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # else torch draws the workers' seeds from the global state
        )
        source = iter(loader)
        try:
            while (batch := _next(source)) is not None:
                if isinstance(batch, _Failure):
                    raise batch.error from RuntimeError(batch.details)
                yield batch
        finally:
            # An error keeps this frame alive, and the workers of an iterator that the garbage collector finds take
            # 5 s to end.
            del source


def _next(source: Iterator[Batch | _Failure]) -> Batch | _Failure | None:
    """The next batch, None at the end; a worker that died is explained."""
    try:
        return next(source, None)
    except RuntimeError as problem:
        if "DataLoader worker" not in str(problem):
            raise
        raise DataError(
            f"a data worker died: {problem}\n"
            "  it ran out of memory or of shared memory; fix: fewer workers (num_workers=0 reads in the main process), "
            "or in a container --shm-size=8g"
        ) from problem


def build_loader(
    dataset: Dataset,
    split: DataSplit,
    *,
    pad_divisor: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    training: bool,
    fixed_size: tuple[int, int] | None = None,
) -> Loader:
    """The loader of a split.

    Args:
        pad_divisor: sides of a batch are multiples of it.
        training: every process gets as many images (some twice); else each image comes exactly once.
        fixed_size: (H, W) that every batch has at least.

    Raises:
        DataError: the dataset is empty.
    """
    if len(dataset) == 0:
        raise DataError(_empty(dataset))
    portrait = None
    if split.group_by_aspect_ratio:
        portrait = np.array([dataset.aspect_ratio(i) < 1 for i in range(len(dataset))])
    class_images = None if split.images_per_class is None else _class_images(dataset)
    sampler = BatchSampler(
        num_images=len(dataset), batch_size=split.batch_size, seed=seed, shuffle=split.shuffle, even=training,
        drop_last=split.drop_last, portrait=portrait, class_images=class_images,
        images_per_class=split.images_per_class or 1, rank=rank, world_size=world_size,
    )  # fmt: skip
    return Loader(
        dataset, sampler, num_workers=split.num_workers, pad_divisor=pad_divisor, fixed_size=fixed_size,
        pin_memory=torch.cuda.is_available(),
    )  # fmt: skip


def _class_images(dataset: Dataset) -> list[np.ndarray]:
    """The images of each class."""
    images: list[list[int]] = [[] for _ in dataset.classes]
    for index in range(len(dataset)):
        for label in np.unique(dataset.record(index).labels):
            images[label].append(index)
    return [np.array(part, np.int64) for part in images]


def _empty(dataset: Dataset) -> str:
    report = getattr(dataset, "report", None)
    title = report.title if report is not None else type(dataset).__name__
    return (
        f"{title}: the dataset is empty\n  classes: {dataset.classes}\n"
        "  fix: check filter_cfg (filter_empty_gt, min_size) and the class names; `fastdet data check` counts them"
    )
