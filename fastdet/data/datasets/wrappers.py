"""Datasets made of datasets: repeated, concatenated, balanced by class, mixed."""

import math
from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate

import numpy as np

from fastdet.data.pipeline import Step, run_transforms
from fastdet.registry import DATASETS
from fastdet.structures import ImageRecord, Sample
from fastdet.utils.errors import DataError

from .base import MAX_REDRAWS, Dataset


class Wrapper:
    """One dataset seen another way: image i is the inner dataset's image `self._inner(i)`."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.classes = dataset.classes
        self.category_ids = dataset.category_ids

    def __len__(self) -> int:
        return len(self.dataset)

    def record(self, index: int) -> ImageRecord:
        """The original's record."""
        return self.dataset.record(self._inner(index))

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The original's sample; repetitions differ by `rng` alone."""
        return self.dataset.sample(self._inner(index), rng)

    def aspect_ratio(self, index: int) -> float:
        """The original's width over height."""
        return self.dataset.aspect_ratio(self._inner(index))

    def leave_out(self, names: Collection[str]) -> None:
        """Drops the transforms of these names inside."""
        self.dataset.leave_out(names)

    def change_transforms(self, transforms: Sequence[Step]) -> None:
        """Gives the original other transforms."""
        self.dataset.change_transforms(transforms)

    def _inner(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return index


@DATASETS.register()
class RepeatDataset(Wrapper):
    """A dataset `times` times over: an epoch of it is `times` epochs of the original, without their pauses."""

    def __init__(self, dataset: Dataset, times: int) -> None:
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        super().__init__(dataset)
        self.times = times

    def __len__(self) -> int:
        return len(self.dataset) * self.times

    def _inner(self, index: int) -> int:
        return super()._inner(index) % len(self.dataset)


@DATASETS.register()
class ClassBalancedDataset(Wrapper):
    """A dataset whose images with rare classes come several times, one after another.

    A class in a part f of the images asks for max(1, sqrt(oversample_thr / f)) times; an image gets the most that any
    of its classes asks for, rounded up. Ignored objects count as their class.

    Source: Gupta et al., LVIS, section 5 (repeat factor sampling), as MMEngine's `ClassBalancedDataset`.

    Args:
        oversample_thr: classes in a smaller part of the images are repeated.
        filter_empty_gt: False counts images without objects as a class of their own; else they come once.
    """

    def __init__(self, dataset: Dataset, oversample_thr: float, filter_empty_gt: bool = True) -> None:
        if not 0 <= oversample_thr <= 1:
            raise ValueError(f"oversample_thr must lie in [0, 1], not {oversample_thr}")
        super().__init__(dataset)
        labels = [np.unique(dataset.record(i).labels) for i in range(len(dataset))]
        nothing = len(dataset.classes)
        if not filter_empty_gt:
            labels = [part if len(part) else np.array([nothing]) for part in labels]
        images = np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=nothing + 1)
        part = np.maximum(images, 1) / max(len(dataset), 1)
        wanted = np.maximum(1.0, np.sqrt(oversample_thr / part))
        times = [math.ceil(wanted[found].max(initial=1.0)) for found in labels]
        self._order = np.repeat(np.arange(len(dataset)), times)

    def __len__(self) -> int:
        return len(self._order)

    def _inner(self, index: int) -> int:
        return int(self._order[super()._inner(index)])


@DATASETS.register()
class MultiImageMixDataset(Wrapper):
    """A dataset with further transforms, which may mix several of its images.

    Further images are drawn with the sample's own random numbers: they depend on seed, epoch and position alone.
    Source: MMDetection's `MultiImageMixDataset`. A transform that gives None gets another image, not another try.

    Args:
        transforms: applied after the inner dataset's own.
        skip_type_keys: names of transforms to leave out.
    """

    def __init__(
        self, dataset: Dataset, transforms: Sequence[Step], skip_type_keys: Sequence[str] | None = None
    ) -> None:
        super().__init__(dataset)
        self.transforms = tuple(transforms)
        if skip_type_keys:
            self.leave_out(skip_type_keys)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The image mixed with others.

        Raises:
            DataError: no image passes the transforms.
        """

        def another(steps: int) -> Sample:
            return self.dataset.sample(int(rng.integers(len(self.dataset))), rng)

        for _ in range(MAX_REDRAWS):
            sample = run_transforms(self.transforms, self.dataset.sample(index, rng), rng, another)
            if sample is not None:
                return sample
            index = int(rng.integers(len(self)))
        raise DataError(f"MultiImageMixDataset: the transforms refused {MAX_REDRAWS} images in a row")

    def leave_out(self, names: Collection[str]) -> None:
        """Drops the transforms of these names, here and inside."""
        self.transforms = tuple(t for t in self.transforms if type(t).__name__ not in names)
        super().leave_out(names)

    def change_transforms(self, transforms: Sequence[Step]) -> None:
        """Takes other transforms; the inner dataset's stay."""
        self.transforms = tuple(transforms)


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

    def leave_out(self, names: Collection[str]) -> None:
        """Drops the transforms of these names in every dataset."""
        for dataset in self.datasets:
            dataset.leave_out(names)

    def change_transforms(self, transforms: Sequence[Step]) -> None:
        """Gives every dataset other transforms."""
        for dataset in self.datasets:
            dataset.change_transforms(transforms)

    def _find(self, index: int) -> tuple[Dataset, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        return self.datasets[number], index - (self._ends[number - 1] if number else 0)
