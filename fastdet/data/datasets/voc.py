"""PASCAL VOC: one XML file an image, lists of ids."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastdet.data.images import IMAGE_SUFFIXES, read_image
from fastdet.data.pipeline import Step
from fastdet.data.report import Report
from fastdet.registry import DATASETS
from fastdet.utils.errors import DataError

from .base import RecordDataset, check_names, keep_rows
from .names import VOC_CLASSES
from .table import AnnotationTable


class VocObject(NamedTuple):
    """One object of an XML file; `box` is xyxy, 0-based: the file's corners minus 1."""

    name: str
    box: tuple[int, int, int, int]
    difficult: bool


class VocImage(NamedTuple):
    """One XML file; `size` is (height, width), None if the file does not give it; `folder` is what it calls so."""

    size: tuple[int, int] | None
    objects: list[VocObject]
    folder: str = ""


@DATASETS.register("VOCDataset", "XMLDataset")
class VOCDataset(RecordDataset):
    """A dataset in PASCAL VOC's layout.

    The corners are made 0-based by subtracting 1 from all four, as in MMDetection 3.x. Difficult objects are kept as
    ignored ones. Boxes of zero width or height are dropped (MMDetection keeps them; no prior can match them).

    Args:
        ann_file: text file with an image id a line (ImageSets/Main/*.txt).
        root: the folder of a year, which holds `image_dir` and `ann_dir`.
        classes: names in label order; None for VOC's 20.
        filter_empty_gt: leave out images without an object of these classes.
        min_size: leave out images whose shorter side is less, in pixels.
        bbox_min_size: objects narrower or lower than this many pixels are ignored; not in test mode.
        test_mode: keep every image.
        image_dir: folder of the images below `root`.
        ann_dir: folder of the XML files below `root`.
        transforms: applied by `sample`, in order.

    Raises:
        DataError: a file is unreadable, ids are not unique, or no object has one of the classes.
    """

    def __init__(
        self,
        ann_file: str,
        root: str,
        classes: Sequence[str] | None = None,
        filter_empty_gt: bool = False,
        min_size: int = 0,
        bbox_min_size: int | None = None,
        test_mode: bool = False,
        image_dir: str = "JPEGImages",
        ann_dir: str = "Annotations",
        transforms: Sequence[Step] = (),
    ) -> None:
        names = VOC_CLASSES if classes is None else tuple(classes)
        report = Report(ann_file)
        table, file_counts = read_voc(
            read_ids(ann_file), os.path.join(root, image_dir), os.path.join(root, ann_dir), names, report,
            bbox_min_size=None if test_mode else bbox_min_size,
        )  # fmt: skip
        rows = keep_rows(
            table, np.diff(table.first_box) > 0,
            filter_empty_gt=filter_empty_gt, min_size=min_size, test_mode=test_mode,
        )  # fmt: skip
        super().__init__(
            table, report, classes=names, category_ids=range(len(names)), file_counts=file_counts,
            rows=rows, transforms=transforms,
        )  # fmt: skip


@DATASETS.register()
class WIDERFaceDataset(RecordDataset):
    """WIDER Face in VOC's form: `root/Annotations/<id>.xml`, and images in the folders that these files name.

    Source: Yang et al., WIDER FACE (CVPR 2016); MMDetection's `WIDERFaceDataset`. Pixels count from 0.

    Args: see VOCDataset.
    """

    def __init__(
        self,
        ann_file: str,
        root: str,
        classes: Sequence[str] | None = None,
        filter_empty_gt: bool = False,
        min_size: int = 0,
        bbox_min_size: int | None = None,
        test_mode: bool = False,
        transforms: Sequence[Step] = (),
    ) -> None:
        names = ("face",) if classes is None else tuple(classes)
        report = Report(ann_file)
        table, file_counts = read_voc(
            read_ids(ann_file), root, os.path.join(root, "Annotations"), names, report,
            bbox_min_size=None if test_mode else bbox_min_size, in_folders=True,
        )  # fmt: skip
        rows = keep_rows(
            table, np.diff(table.first_box) > 0,
            filter_empty_gt=filter_empty_gt, min_size=min_size, test_mode=test_mode,
        )  # fmt: skip
        super().__init__(
            table, report, classes=names, category_ids=range(len(names)), file_counts=file_counts,
            rows=rows, transforms=transforms,
        )  # fmt: skip


def read_ids(path: str | os.PathLike[str]) -> list[str]:
    """The ids of an image set: the first word of each line (the lists of a single class have a flag behind it).

    Raises:
        DataError: the file cannot be read.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as problem:
        raise DataError(f"{path}: list of image ids cannot be read: {problem.strerror or problem}") from problem
    return [line.split()[0] for line in lines if line.strip()]


def parse_xml(path: str | os.PathLike[str], *, first_pixel: int = 1) -> VocImage:
    """Reads one VOC XML file; fractions of a pixel are cut off, as in MMDetection.

    Args:
        first_pixel: the number of the first pixel in the file.

    Raises:
        DataError: the file is missing, is no XML, or an object lacks its name or box.
    """
    try:
        root = ET.parse(path).getroot()
    except OSError as problem:
        raise DataError(f"{path}: annotation cannot be read: {problem.strerror or problem}") from problem
    except ET.ParseError as problem:
        raise DataError(f"{path}: annotation is no valid XML: {problem}") from problem
    try:
        size = None
        if root.find("size") is not None:
            size = int(root.findtext("size/height", "")), int(root.findtext("size/width", ""))
        objects = []
        for number, item in enumerate(root.findall("object")):
            x1, y1, x2, y2 = (
                int(float(item.findtext(f"bndbox/{key}", f"(object {number} has no {key})"))) - first_pixel
                for key in ("xmin", "ymin", "xmax", "ymax")
            )
            difficult = int(item.findtext("difficult") or 0)
            objects.append(VocObject(item.findtext("name", "").strip(), (x1, y1, x2, y2), bool(difficult)))
    except ValueError as problem:
        raise DataError(f"{path}: annotation has a value that is no number: {problem}") from problem
    return VocImage(size, objects, (root.findtext("folder") or "").strip())


def find_image(image_dir: str, image_id: str) -> str:
    """The path of an image by its id: .jpg as in VOC, else the first known suffix that exists (.jpg if none does)."""
    default = os.path.join(image_dir, f"{image_id}.jpg")
    if os.path.exists(default):
        return default
    for suffix in IMAGE_SUFFIXES:
        path = os.path.join(image_dir, image_id + suffix)
        if os.path.exists(path):
            return path
    return default


def read_voc(
    ids: Sequence[str], image_dir: str, ann_dir: str, classes: Sequence[str], report: Report,
    *, bbox_min_size: int | None = None, in_folders: bool = False,
) -> tuple[AnnotationTable, dict[str, int]]:  # fmt: skip
    """Reads the XML files of the ids; what is wrong goes into the report.

    Args:
        bbox_min_size: narrower or lower objects are ignored.
        in_folders: WIDER Face's layout: images lie in the folder that their XML file names, and pixels count from 0.

    Returns:
        The table, and the boxes of each class name found.
    """
    table = AnnotationTable(with_segments=False)
    position = {name: label for label, name in enumerate(classes)}
    file_counts: dict[str, int] = {}
    seen: set[str] = set()
    for image_id in ids:
        if image_id in seen:
            report.error("image ids are not unique", repr(image_id))
        seen.add(image_id)
        path = find_image(image_dir, image_id)
        try:
            image = parse_xml(os.path.join(ann_dir, f"{image_id}.xml"), first_pixel=0 if in_folders else 1)
            if in_folders:
                path = find_image(os.path.join(image_dir, image.folder), image_id)
            height, width = image.size or read_image(path).shape[:2]
        except DataError as problem:
            report.error("annotation files that cannot be used", str(problem))
            continue
        if height < 1 or width < 1:
            report.error("images of zero size", f"{path} ({width} x {height})")
        table.add_image(image_id, path, height, width)
        for item in image.objects:
            file_counts[item.name] = file_counts.get(item.name, 0) + 1
            x1, y1, x2, y2 = item.box
            if x2 <= x1 or y2 <= y1:
                report.warn("boxes of zero size are not used", f"{image_id} {item.box}")
                continue
            if item.name not in position:
                continue
            if x1 < -1 or y1 < -1 or x2 > width or y2 > height:
                report.warn("boxes that reach beyond their image", f"{image_id} {item.box}")
            is_small = bbox_min_size is not None and min(x2 - x1, y2 - y1) < bbox_min_size
            table.add_box(item.box, position[item.name], item.difficult or is_small)
    report.counts.update(
        images=len(table), boxes=table.num_boxes, ignored=int(table.ignore.sum()), classes=len(classes)
    )
    check_names(report, classes=classes, file_counts=file_counts, used=table.num_boxes)
    return table, file_counts
