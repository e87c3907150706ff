"""Datasets made of datasets: repeated and concatenated."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from fastdet.registry import DATASETS
from fastdet.structures import ImageRecord, Sample
from fastdet.utils.errors import DataError

from .base import Dataset


@DATASETS.register()
class RepeatDataset:
    """A dataset `times` times over: an epoch of it is `times` epochs of the original, without their pauses."""

    def __init__(self, dataset: Dataset, times: int) -> None:
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        self.dataset = dataset
        self.times = times
        self.classes = dataset.classes
        self.category_ids = dataset.category_ids

    def __len__(self) -> int:
        return len(self.dataset) * self.times

    def record(self, index: int) -> ImageRecord:
        """The original's record."""
        return self.dataset.record(self._inner(index))

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The original's sample; repetitions differ by `rng` alone."""
        return self.dataset.sample(self._inner(index), rng)

    def aspect_ratio(self, index: int) -> float:
        """The original's width over height."""
        return self.dataset.aspect_ratio(self._inner(index))

    def _inner(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return index % len(self.dataset)


@DATASETS.register()
class ConcatDataset:
    """Datasets one after another, all with the same classes.

    Raises:
        DataError: the classes of two datasets differ.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        if not datasets:
            raise ValueError("datasets must hold at least one dataset")
        for number, dataset in enumerate(datasets):
            if dataset.classes != datasets[0].classes:
                raise DataError(
                    f"ConcatDataset: the classes of dataset {number} differ from the first one's\n"
                    f"  first: {datasets[0].classes}\n  {number}: {dataset.classes}\n"
                    "  fix: give all of them the same metainfo=dict(classes=...)"
                )
        self.datasets = tuple(datasets)
        self.classes = datasets[0].classes
        self.category_ids = datasets[0].category_ids
        self._ends = list(accumulate(len(d) for d in datasets))

    def __len__(self) -> int:
        return self._ends[-1]

    def record(self, index: int) -> ImageRecord:
        """The record of the dataset that holds the image."""
        dataset, inner = self._find(index)
        return dataset.record(inner)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The sample of the dataset that holds the image."""
        dataset, inner = self._find(index)
        return dataset.sample(inner, rng)

    def aspect_ratio(self, index: int) -> float:
        """Width over height of the image."""
        dataset, inner = self._find(index)
        return dataset.aspect_ratio(inner)

    def _find(self, index: int) -> tuple[Dataset, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        return self.datasets[number], index - (self._ends[number - 1] if number else 0)
