"""The check of a dataset before training: files, sizes, boxes, class names, ids."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import numpy as np

from fastdet.utils.errors import DataError

from .datasets.base import Dataset, RecordDataset
from .datasets.coco import category_names, load_coco, read_coco
from .datasets.table import AnnotationTable
from .datasets.voc import parse_xml, read_ids, read_voc
from .datasets.wrappers import ConcatDataset, Wrapper
from .images import read_image
from .report import Report

NUM_SPOT_CHECKS = 32
"""Images decoded by the fast check, spread over the set: enough to meet a systematic fault such as turned images."""


def check_dataset(dataset: Dataset, *, full: bool = False) -> list[Report]:
    """Reports on every dataset inside, wrappers opened, each once.

    The files' annotations were checked when the dataset read them; this adds what needs the images.

    Args:
        full: decode every image instead of a few.
    """
    reports = []
    for leaf in _leaves(dataset):
        report = deepcopy(leaf.report)
        report.counts["used images"] = len(leaf)
        if len(leaf) == 0:
            report.error("no image is left by the filters (filter_empty_gt, min_size)")
        else:
            check_images(leaf.table, report, leaf.rows, full=full)
        reports.append(report)
    return reports


def check_coco_file(
    ann_file: str, image_dir: str, classes: Sequence[str] | None = None, *, full: bool = False
) -> Report:
    """Checks a COCO JSON file and its images; without `classes` all of the file's are taken."""
    report = Report(ann_file)
    try:
        file = load_coco(ann_file)
        names = category_names(file) if classes is None else tuple(classes)
        table = read_coco(file, image_dir, names, report).table
    except DataError as problem:
        report.error(str(problem))
        return report
    check_images(table, report, np.arange(len(table)), full=full)
    return report


def check_voc_folder(
    root: str, ann_file: str | None = None, classes: Sequence[str] | None = None, *, full: bool = False
) -> Report:
    """Checks a VOC year folder: the ids of `ann_file`, or all XML files; without `classes` all names found."""
    report = Report(ann_file or root)
    folder = Path(root)
    try:
        ids = read_ids(ann_file) if ann_file else sorted(p.stem for p in (folder / "Annotations").glob("*.xml"))
        if classes is None:
            classes = _voc_names(folder / "Annotations", ids)
        table, _ = read_voc(ids, str(folder / "JPEGImages"), str(folder / "Annotations"), classes, report)
    except DataError as problem:
        report.error(str(problem))
        return report
    check_images(table, report, np.arange(len(table)), full=full)
    return report


def check_images(table: AnnotationTable, report: Report, rows: np.ndarray, *, full: bool) -> None:
    """Adds to the report what the image files show: missing ones, unreadable ones, sizes unlike the annotated ones."""
    if len(rows) == 0:
        report.error("no images")
        return
    present = _existing(table, rows)
    for row in rows[~present]:
        report.error("images that do not exist", table.paths[row])
    num_objects = np.diff(table.first_box)[rows]
    report.counts["images without objects"] = int((num_objects == 0).sum())
    found = rows[present]
    if not full:
        found = found[np.unique(np.linspace(0, len(found) - 1, NUM_SPOT_CHECKS).astype(int))] if len(found) else found
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for message, example in pool.map(lambda row: _decode(table, int(row)), found):
            if message:
                report.error(message, example)
    report.counts["images decoded"] = len(found)


def _decode(table: AnnotationTable, row: int) -> tuple[str, str]:
    try:
        height, width = read_image(table.paths[row]).shape[:2]
    except DataError as problem:
        return "images that cannot be decoded", str(problem).splitlines()[0]
    expected = tuple(int(v) for v in table.sizes[row])
    if (height, width) == expected:
        return "", ""
    kind = "turned by 90 degrees (EXIF)" if (width, height) == expected else "of another size"
    return (
        f"images {kind} than annotated",
        f"{table.paths[row]} (H x W = {height} x {width}, annotated {expected[0]} x {expected[1]})",
    )


def _existing(table: AnnotationTable, rows: np.ndarray) -> np.ndarray:
    """Which files exist, bool; folders are listed once instead of asking for each file."""
    listed: dict[str, set[str]] = {}
    present = np.zeros(len(rows), bool)
    for i, row in enumerate(rows):
        folder, name = os.path.split(table.paths[row])
        if folder not in listed:
            listed[folder] = set(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else set()
        present[i] = name in listed[folder]
    return present


def _leaves(dataset: Dataset) -> list[RecordDataset]:
    if isinstance(dataset, Wrapper):
        return _leaves(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return [leaf for inner in dataset.datasets for leaf in _leaves(inner)]
    return [dataset] if isinstance(dataset, RecordDataset) else []


def _voc_names(ann_dir: Path, ids: Sequence[str]) -> list[str]:
    """All class names in the XML files, the most frequent first."""
    counts: Counter[str] = Counter()
    for image_id in ids:
        try:
            counts.update(item.name for item in parse_xml(ann_dir / f"{image_id}.xml").objects)
        except DataError:
            continue  # read_voc reports it
    return [name for name, _ in counts.most_common()]
