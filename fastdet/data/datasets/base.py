"""The Dataset protocol, and the dataset that reads its records from an AnnotationTable."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from fastdet.data.pipeline import Step, run_transforms
from fastdet.data.report import Report
from fastdet.structures import ImageRecord, Sample
from fastdet.utils.errors import DataError

from .table import AnnotationTable

NOT_IN_FILE = -1
"""The category id of a class that the annotation file does not have."""
MAX_NAMES = 20
"""Class names that a message lists; there are sets with thousands."""
MAX_REDRAWS = 1000
"""Images tried in place of one that the transforms refuse; MMDetection's number."""


class Dataset(Protocol):
    """Images with annotations; labels index `classes`, category_ids[label] is the file's own number of it."""

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __len__(self) -> int: ...

    def record(self, index: int) -> ImageRecord:
        """What is known of an image before it is decoded."""
        ...

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The image decoded and transformed, all chance from `rng`."""
        ...

    def aspect_ratio(self, index: int) -> float:
        """Width over height as annotated."""
        ...

    def leave_out(self, names: Collection[str]) -> None:
        """Drops the transforms of these names, for the rest of a training."""
        ...

    def change_transforms(self, transforms: Sequence[Step]) -> None:
        """Takes other transforms from now on."""
        ...


class RecordDataset:
    """A dataset over an AnnotationTable. Readers of formats subclass it and only fill the table.

    Attributes:
        table: every image of the file, also those that `rows` leaves out.
        rows: the table's row of each image of this dataset.
        report: what was found while reading, see `fastdet.data.check`.
        file_counts: boxes of each class name in the file, in the file's order.
    """

    def __init__(
        self,
        table: AnnotationTable,
        report: Report,
        *,
        classes: Sequence[str],
        category_ids: Sequence[int],
        file_counts: Mapping[str, int],
        rows: np.ndarray,
        transforms: Sequence[Step],
    ) -> None:
        report.raise_errors()
        self.table = table
        self.report = report
        self.rows = rows
        self.classes = tuple(classes)
        self.category_ids = tuple(category_ids)
        self.file_counts = dict(file_counts)
        self.transforms = tuple(transforms)

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, index: int) -> ImageRecord:
        """What is known of an image before it is decoded."""
        return self.table.record(int(self.rows[index]))

    def aspect_ratio(self, index: int) -> float:
        """Width over height as annotated."""
        height, width = self.table.sizes[self.rows[index]]
        return float(width / height)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The image decoded and transformed.

        When a transform gives None (a crop without objects), another image is drawn from `rng`.

        Raises:
            DataError: no image passes the transforms.
        """
        return self._after(len(self.transforms), index, rng)

    def leave_out(self, names: Collection[str]) -> None:
        """Drops the transforms of these names."""
        self.transforms = tuple(t for t in self.transforms if type(t).__name__ not in names)

    def change_transforms(self, transforms: Sequence[Step]) -> None:
        """Takes other transforms from now on."""
        self.transforms = tuple(transforms)

    def _after(self, steps: int, index: int, rng: np.random.Generator) -> Sample:
        """The image, or one in place of it, after the first transforms."""

        def another(steps: int) -> Sample:
            return self._after(steps, int(rng.integers(len(self))), rng)

        for _ in range(MAX_REDRAWS):
            sample = run_transforms(self.transforms[:steps], undecoded(self.record(index)), rng, another)
            if sample is not None:
                return sample
            index = int(rng.integers(len(self)))
        raise DataError(
            f"{self.report.title}: the transforms refused {MAX_REDRAWS} images in a row; "
            "a crop or a filter asks for objects that these images do not have"
        )


def undecoded(record: ImageRecord) -> Sample:
    """A Sample that holds the annotations but no pixels yet; LoadImageFromFile reads them."""
    return Sample(
        image=np.zeros((0, 0, 3), np.uint8),
        boxes=record.boxes,
        labels=record.labels,
        ignore=record.ignore,
        masks=None,
        image_id=record.image_id,
        path=record.path,
        file_size=(record.height, record.width),
        segments=record.segments,
        semantic_path=record.semantic_path,
        proposals=record.proposals,
    )


def keep_rows(
    table: AnnotationTable, has_objects: np.ndarray, *, filter_empty_gt: bool, min_size: int, test_mode: bool
) -> np.ndarray:
    """The rows of images that are used: all in test mode, else MMDetection's two filters.

    Args:
        has_objects: bool [N], what `filter_empty_gt` asks for.
        min_size: images whose shorter side is less are left out.
    """
    keep = np.ones(len(table), bool)
    if not test_mode:
        keep = table.sizes.min(axis=1, initial=np.iinfo(np.int64).max) >= min_size
        if filter_empty_gt:
            keep &= has_objects
    return np.flatnonzero(keep)


def check_names(report: Report, *, classes: Sequence[str], file_counts: Mapping[str, int], used: int) -> None:
    """Adds an error if no class of the config is in the file, and warnings for what does not fit.

    Args:
        used: boxes that are used.
    """
    total = sum(file_counts.values())
    if total and not any(name in file_counts for name in classes):
        by_lower = {name.lower(): name for name in file_counts}
        names = [by_lower[c.lower()] for c in classes if c.lower() in by_lower] or list(file_counts)
        fix = ", ".join(repr(name) for name in names) + ("," if len(names) == 1 else "")
        if len(names) > MAX_NAMES:
            fix = "...the names above..."
        report.error(
            "class names do not match the annotations\n"
            f"  config (classes):   {_listed([repr(c) for c in classes])}\n"
            f"  annotations:        {_listed([f'{name!r} ({count} boxes)' for name, count in file_counts.items()])}"
            f"   -> 0 of {total} boxes would be used\n"
            f"  fix: metainfo=dict(classes=({fix}))"
        )
        return
    if total and not used:
        report.warn("no box of these classes can be used")
    for name in classes:
        if name not in file_counts:
            report.warn("class names that the file does not have", repr(name))
    for name, count in file_counts.items():
        if name not in classes and count:
            report.warn("boxes of other classes are not used", f"{name!r} ({count})", count)


def _listed(names: Sequence[str]) -> str:
    more = f", ... {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
