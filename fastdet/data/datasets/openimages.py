"""Open Images: boxes in CSV or text files, a hierarchy of classes, groups, classes verified image by image."""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastdet.data.images import read_image
from fastdet.data.pickles import load_plain_pickle
from fastdet.data.pipeline import Step
from fastdet.data.report import Report
from fastdet.registry import DATASETS
from fastdet.utils.errors import DataError

from .base import RecordDataset, check_names
from .table import AnnotationTable


class _Box(NamedTuple):
    label: int
    box: tuple[float, float, float, float]  # xyxy in parts of the image
    is_group: bool


class _Classes(NamedTuple):
    names: tuple[str, ...]
    label_of: dict[str, int]  # by the id that Open Images gives a class, such as /m/011k07


class _OpenImages(RecordDataset):
    """What both forms share; `relations` [C, C] bool says of each class (row) which classes it is a kind of.

    `filter_empty_gt` and `min_size` are not looked at, as in MMDetection: every image has boxes.
    """

    def __init__(
        self,
        ann_file: str,
        image_dir: str,
        found: "list[tuple[str, list[_Box]]]",
        known: _Classes,
        relations: np.ndarray,
        verified: dict[str, list[int]] | None,
        meta_file: str | None,
        transforms: Sequence[Step],
    ) -> None:
        report = Report(ann_file)
        table = AnnotationTable(with_segments=False)
        counts = dict.fromkeys(known.names, 0)
        groups: list[bool] = []
        paths = [os.path.join(image_dir, name) for name, _ in found]
        for path, (name, boxes), (height, width) in zip(paths, found, _sizes(paths, meta_file), strict=True):
            table.add_image(Path(name).stem, path, height, width)
            for item in boxes:
                x1, y1, x2, y2 = item.box
                counts[known.names[item.label]] += 1
                table.add_box((x1 * width, y1 * height, x2 * width, y2 * height), item.label, False)
                groups.append(item.is_group)
        table.group_of = np.array(groups, bool)
        if verified is not None:
            table.verified = [np.array(verified.get(Path(name).stem, ()), np.int64) for name, _ in found]
        report.counts.update(images=len(table), boxes=table.num_boxes, groups=sum(groups), classes=len(known.names))
        check_names(report, classes=known.names, file_counts=counts, used=table.num_boxes)
        super().__init__(
            table, report, classes=known.names, category_ids=range(len(known.names)), file_counts=counts,
            rows=np.arange(len(table)), transforms=transforms,
        )  # fmt: skip
        self.relations = relations


@DATASETS.register()
class OpenImagesDataset(_OpenImages):
    """Open Images v4 to v6: boxes as a CSV file a split. The classes are those of `label_file`, in its order.

    Source: Kuznetsova et al., The Open Images Dataset V4 (IJCV 2020); MMDetection's `OpenImagesDataset`.

    Args:
        ann_file: CSV of boxes: ImageID, Source, LabelName, Confidence, XMin, XMax, YMin, YMax, IsOccluded, IsTruncated,
            IsGroupOf, ...
        image_dir: the folder of the images, which are called <ImageID>.jpg.
        label_file: CSV of the classes: id, name.
        hierarchy_file: JSON tree of the classes: LabelName, Subcategory.
        meta_file: a pickle of the images' sizes in order (dicts with `filename`, `ori_shape`); None: sizes are read
            from the pictures.
        image_level_ann_file: CSV of classes verified to be or not to be in an image: ImageID, Source, LabelName, ...
        filter_empty_gt, min_size, test_mode: not looked at.
        transforms: applied by `sample`, in order.

    Raises:
        DataError: a file is missing, or does not have this form.
    """

    def __init__(
        self,
        ann_file: str,
        image_dir: str,
        label_file: str,
        hierarchy_file: str,
        meta_file: str | None = None,
        image_level_ann_file: str | None = None,
        filter_empty_gt: bool = False,
        min_size: int = 0,
        test_mode: bool = False,
        transforms: Sequence[Step] = (),
    ) -> None:
        rows = list(_csv(label_file))
        known = _Classes(tuple(row[1] for row in rows), {row[0]: label for label, row in enumerate(rows)})
        images: dict[str, list[_Box]] = {}
        for row in _csv(ann_file, skip=1):
            x1, x2, y1, y2 = (float(v) for v in row[4:8])
            box = _Box(_label(known, row[2], ann_file), (x1, y1, x2, y2), row[10] == "1")
            images.setdefault(f"{row[0]}.jpg", []).append(box)
        relations = np.eye(len(known.names), dtype=bool)
        _add_relations(_json(hierarchy_file), (), known, relations, hierarchy_file)
        verified = _verified(image_level_ann_file, known, column=2)
        super().__init__(ann_file, image_dir, list(images.items()), known, relations, verified, meta_file, transforms)


@DATASETS.register()
class OpenImagesChallengeDataset(_OpenImages):
    """The Open Images Challenge of 2019: boxes as a text file, the classes' relations as a matrix.

    Source: Open Images Challenge 2019; MMDetection's `OpenImagesChallengeDataset`.

    Args:
        ann_file: for every image its path, a line that is not read, the number of boxes, and a line a box: class from
            1, four corners in parts of the image, whether it holds a group.
        label_file: CSV of the classes: id, name, number from 1.
        hierarchy_file: a NumPy file [C + 1, C + 1], row and column 0 empty.
        image_level_ann_file: CSV: ImageID, LabelName, ...
        others: see OpenImagesDataset.

    Raises:
        DataError: a file is missing, or does not have this form.
    """

    def __init__(
        self,
        ann_file: str,
        image_dir: str,
        label_file: str,
        hierarchy_file: str,
        meta_file: str | None = None,
        image_level_ann_file: str | None = None,
        filter_empty_gt: bool = False,
        min_size: int = 0,
        test_mode: bool = False,
        transforms: Sequence[Step] = (),
    ) -> None:
        rows = sorted(_csv(label_file), key=lambda row: int(row[2]))
        known = _Classes(tuple(row[1] for row in rows), {row[0]: int(row[2]) - 1 for row in rows})
        try:
            relations = np.load(hierarchy_file)[1:, 1:] > 0
        except (OSError, ValueError) as problem:
            raise DataError(f"{hierarchy_file}: hierarchy cannot be read: {problem}") from problem
        found = list(_challenge_boxes(ann_file))
        verified = _verified(image_level_ann_file, known, column=1)
        super().__init__(ann_file, image_dir, found, known, relations, verified, meta_file, transforms)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        raise DataError(f"{path}: annotation file cannot be read: {problem.strerror or problem}") from problem


def _csv(path: str, *, skip: int = 0) -> Iterator[list[str]]:
    yield from (row for row in list(csv.reader(_lines(path)))[skip:] if row)


def _json(path: str) -> Any:
    try:
        return json.loads("\n".join(_lines(path)))
    except ValueError as problem:
        raise DataError(f"{path}: hierarchy is no valid JSON: {problem}") from problem


def _label(known: _Classes, name: str, path: str) -> int:
    if name not in known.label_of:
        raise DataError(f"{path}: the class {name!r} is not in label_file")
    return known.label_of[name]


def _add_relations(
    node: dict[str, Any], parents: tuple[int, ...], known: _Classes, relations: np.ndarray, path: str
) -> None:
    """Marks for every class below a node its ancestors; the root is no class."""
    for child in node.get("Subcategory", ()):
        if "LabelName" in child:
            label = _label(known, child["LabelName"], path)
            relations[label, list(parents)] = True
            _add_relations(child, (label, *parents), known, relations, path)


def _verified(path: str | None, known: _Classes, *, column: int) -> dict[str, list[int]] | None:
    if path is None:
        return None
    found: dict[str, list[int]] = {}
    for row in _csv(path, skip=1):
        found.setdefault(row[0], []).append(_label(known, row[column], path))
    return found


def _challenge_boxes(path: str) -> Iterator[tuple[str, list[_Box]]]:
    lines = iter(_lines(path))
    try:
        for name in lines:
            next(lines)
            boxes = []
            for _ in range(int(next(lines))):
                label, x1, y1, x2, y2, group = next(lines).split()[:6]
                boxes.append(_Box(int(label) - 1, (float(x1), float(y1), float(x2), float(y2)), group == "1"))
            yield name.strip(), boxes
    except (StopIteration, ValueError) as problem:
        raise DataError(f"{path}: not a file of the Open Images Challenge: {problem}") from problem


def _sizes(paths: Sequence[str], meta_file: str | None) -> Iterator[tuple[int, int]]:
    """(H, W) of every image."""
    if meta_file is None:
        yield from (read_image(path).shape[:2] for path in paths)
        return
    metas = load_plain_pickle(meta_file, "image sizes")
    if not isinstance(metas, list) or len(metas) != len(paths):
        raise DataError(f"{meta_file}: the sizes of {len(paths)} images are needed; is it another split's file?")
    for path, meta in zip(paths, metas, strict=True):
        if Path(meta["filename"]).name != Path(path).name:
            raise DataError(f"{meta_file}: {meta['filename']} stands where {path} is expected")
        yield int(meta["ori_shape"][0]), int(meta["ori_shape"][1])
