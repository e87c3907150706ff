"""COCO instances JSON: boxes, polygons, RLE masks, crowds."""

import json
import os
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastdet.data.pipeline import Step
from fastdet.data.proposals import load_proposals
from fastdet.data.report import Report
from fastdet.registry import DATASETS
from fastdet.utils.errors import DataError

from .base import NOT_IN_FILE, RecordDataset, check_names, keep_rows
from .names import COCO_CLASSES
from .table import AnnotationTable


class CocoFile(NamedTuple):
    """A COCO JSON file as it stands."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]


class CocoTable(NamedTuple):
    """A COCO file translated to labels."""

    table: AnnotationTable
    category_ids: tuple[int, ...]
    file_counts: dict[str, int]
    has_objects: np.ndarray  # [N] bool: an annotation of a wanted class, whatever its box


@DATASETS.register()
class CocoDataset(RecordDataset):
    """A dataset in COCO's format.

    Labels follow the order of `classes`. (MMDetection numbers them in the order of the file's categories whatever the
    order of `classes`; the report warns when the two differ.) Boxes are turned from xywh to xyxy and not clipped.
    Dropped, as in MMDetection 3.x: boxes of other classes, boxes without any area inside the image, of `area` <= 0,
    narrower or lower than 1 pixel, and annotations with `ignore`. Crowds are kept as ignored objects.

    Args:
        image_dir: the folder that `file_name` starts from.
        classes: names in label order; None for COCO's 80, as in MMDetection, or what else the format has.
        seg_dir: the folder of semantic maps, which are called like the images; None: there are none.
        seg_map_suffix: what takes the place of the images' suffix.
        proposal_file: a pickle of proposals, see `fastdet.data.proposals`.
        filter_empty_gt: leave out images that have no annotation of these classes (dropped and crowd ones count).
        min_size: leave out images whose shorter side is less, in pixels.
        test_mode: keep every image.
        transforms: applied by `sample`, in order.

    Raises:
        DataError: the file is unreadable, ids are not unique, or no box has one of the classes.
    """

    default_classes: tuple[str, ...] | None = COCO_CLASSES
    """The names without `classes`; None for the file's own, in its order."""

    def __init__(
        self,
        ann_file: str,
        image_dir: str = "",
        classes: Sequence[str] | None = None,
        filter_empty_gt: bool = False,
        min_size: int = 0,
        test_mode: bool = False,
        seg_dir: str | None = None,
        seg_map_suffix: str = ".png",
        proposal_file: str | None = None,
        transforms: Sequence[Step] = (),
    ) -> None:
        report = Report(ann_file)
        file = self.prepare(load_coco(ann_file))
        names = tuple(classes or self.default_classes or category_names(file))
        read = read_coco(file, image_dir, names, report)
        if seg_dir is not None:
            starts = (os.path.splitext(os.path.relpath(path, image_dir or "."))[0] for path in read.table.paths)
            read.table.semantic_paths = [os.path.join(seg_dir, start + seg_map_suffix) for start in starts]
        if proposal_file is not None:
            read.table.proposals = load_proposals(proposal_file, read.table.paths)
        rows = keep_rows(
            read.table, self.counted(read), filter_empty_gt=filter_empty_gt, min_size=min_size, test_mode=test_mode
        )
        super().__init__(
            read.table, report, classes=names, category_ids=read.category_ids, file_counts=read.file_counts,
            rows=rows, transforms=transforms,
        )  # fmt: skip

    def prepare(self, file: CocoFile) -> CocoFile:
        """The file in COCO's form; formats that differ from it change it here."""
        return file

    def counted(self, read: CocoTable) -> np.ndarray:
        """Which images `filter_empty_gt` keeps, bool [N]."""
        return read.has_objects


def load_coco(path: str | os.PathLike[str]) -> CocoFile:
    """Reads a COCO JSON file.

    Raises:
        DataError: the file is missing, is no JSON, or lacks `images` or `categories`.
    """
    try:
        data = json.loads(Path(path).read_bytes())
    except OSError as problem:
        raise DataError(f"{path}: annotation file cannot be read: {problem.strerror or problem}") from problem
    except ValueError as problem:
        raise DataError(f"{path}: annotation file is no valid JSON: {problem}") from problem
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("images", "categories")):
        found = sorted(data)[:10] if isinstance(data, dict) else type(data).__name__
        raise DataError(f"{path}: not a COCO file: it needs the lists images and categories, and has {found}")
    return CocoFile(data["images"], data.get("annotations") or [], data["categories"])


def category_names(file: CocoFile) -> tuple[str, ...]:
    """The file's class names in the file's order."""
    return tuple(category["name"] for category in file.categories)


def read_coco(file: CocoFile, image_dir: str, classes: Sequence[str], report: Report) -> CocoTable:
    """Translates a COCO file to labels and xyxy boxes; what is wrong with it goes into the report."""
    file = _complete(file, report)
    name_of = {category["id"]: category["name"] for category in file.categories}
    file_counts = dict.fromkeys(name_of.values(), 0)
    label_of = _labels(file, classes, report)
    has_segments = any(annotation.get("segmentation") for annotation in file.annotations)
    table = AnnotationTable(with_segments=has_segments)
    by_image = _by_image(file, report)
    has_objects = np.zeros(len(file.images), bool)
    for row, image in enumerate(file.images):
        path = os.path.join(image_dir, image["file_name"])
        height, width = int(image["height"]), int(image["width"])
        if height < 1 or width < 1:
            report.error("images of zero size", f"{path} ({width} x {height})")
        table.add_image(image["id"], path, height, width)
        for annotation in by_image.get(image["id"], ()):
            category = annotation["category_id"]
            if category not in name_of:
                report.error("annotations of a category id that the file does not list", f"id {category}")
                continue
            file_counts[name_of[category]] += 1
            has_objects[row] |= category in label_of
            if _is_usable(annotation, height, width, report) and category in label_of:
                _add(table, annotation, label_of[category], report)
    ids = {name: category for category, name in name_of.items()}
    category_ids = tuple(ids.get(name, NOT_IN_FILE) for name in classes)
    report.counts.update(images=len(table), boxes=table.num_boxes, crowd=int(table.ignore.sum()), classes=len(classes))
    check_names(report, classes=classes, file_counts=file_counts, used=table.num_boxes)
    return CocoTable(table, category_ids, file_counts, has_objects)


def _complete(file: CocoFile, report: Report) -> CocoFile:
    """The file without entries that lack a needed key or have a box that is not four numbers; those are errors."""

    def complete(entries: list[dict[str, Any]], noun: str, keys: set[str]) -> list[dict[str, Any]]:
        kept = []
        for number, entry in enumerate(entries):
            missing = keys - entry.keys() if isinstance(entry, dict) else keys
            if missing:
                report.error(f"{noun} without {', '.join(sorted(missing))}", f"entry {number}")
            elif "bbox" in keys and not _is_box(entry["bbox"]):
                report.error("boxes that are not four finite numbers", f"annotation {entry.get('id', number)}")
            else:
                kept.append(entry)
        return kept

    return CocoFile(
        complete(file.images, "images", {"id", "file_name", "height", "width"}),
        complete(file.annotations, "annotations", {"image_id", "category_id", "bbox"}),
        complete(file.categories, "categories", {"id", "name"}),
    )


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) and isfinite(v) for v in box)


def _labels(file: CocoFile, classes: Sequence[str], report: Report) -> dict[int, int]:
    """Label of each category id that is wanted."""
    _unique((category["id"] for category in file.categories), "category ids", report)
    _unique(category_names(file), "category names", report)
    _unique(classes, "class names in the config", report)
    position = {name: label for label, name in enumerate(classes)}
    found = [position[name] for name in category_names(file) if name in position]
    if found != sorted(found):
        report.warn("the order of the classes is not the file's; checkpoints of MMDetection have the file's order")
    return {c["id"]: position[c["name"]] for c in file.categories if c["name"] in position}


def _by_image(file: CocoFile, report: Report) -> dict[Any, list[dict[str, Any]]]:
    """Annotations of each image id, in file order."""
    _unique((image["id"] for image in file.images), "image ids", report)
    _unique((image["file_name"] for image in file.images), "image file names", report, is_error=False)
    _unique((a["id"] for a in file.annotations if "id" in a), "annotation ids", report)
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in file.images}
    for annotation in file.annotations:
        if annotation["image_id"] in by_image:
            by_image[annotation["image_id"]].append(annotation)
        else:
            report.error("annotations of an image id that the file does not list", f"id {annotation['image_id']}")
    return by_image


def _unique(values: Iterable[Any], noun: str, report: Report, *, is_error: bool = True) -> None:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            (report.error if is_error else report.warn)(f"{noun} are not unique", repr(value))
        seen.add(value)


def _is_usable(annotation: dict[str, Any], height: int, width: int, report: Report) -> bool:
    """MMDetection's tests of a box, `CocoDataset.parse_data_info`; a box without `area` is given its own."""
    if annotation.get("ignore", False):
        return False
    x, y, w, h = annotation["bbox"]
    where = f"annotation {annotation.get('id', '?')} of image {annotation['image_id']}"
    if w <= 0 or h <= 0:
        report.warn("boxes of zero size are not used", where)
        return False
    inside_w = max(0, min(x + w, width) - max(x, 0))
    inside_h = max(0, min(y + h, height) - max(y, 0))
    if inside_w * inside_h == 0:
        report.warn("boxes outside their image are not used", where)
        return False
    if annotation.get("area", w * h) <= 0 or w < 1 or h < 1:
        report.warn("boxes smaller than a pixel, or of area 0, are not used", where)
        return False
    if x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
        report.warn("boxes that reach more than a pixel beyond their image", where)
    return True


def _add(table: AnnotationTable, annotation: dict[str, Any], label: int, report: Report) -> None:
    x, y, w, h = annotation["bbox"]
    table.add_box((x, y, x + w, y + h), label, bool(annotation.get("iscrowd", False)))
    if table.segments is not None and not table.segments.append(annotation.get("segmentation")):
        report.warn("boxes without a usable mask", f"annotation {annotation.get('id', '?')}")
