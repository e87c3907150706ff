"""COCO ground truth: read from an annotation file, or made from a dataset's records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastdet.structures import ImageRecord
from fastdet.structures.sample import Segment
from fastdet.utils.errors import DataError, suggestion


@dataclass(frozen=True, slots=True)
class CocoTruth:
    """A COCO dataset and what its labels mean.

    `data` is the dict of a COCO instances file; every annotation has `id`, `iscrowd` and `area`.
    """

    data: Mapping[str, Any]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]  # of label 0, 1, ...
    image_ids: tuple[int | str, ...]


def read_truth(path: str | Path, classes: Sequence[str], category_ids: Sequence[int] | None = None) -> CocoTruth:
    """The ground truth of a COCO instances file.

    Args:
        path: the JSON file.
        classes: names in label order.
        category_ids: the category of each label; None looks the names up in the file.

    Raises:
        DataError: no such file, no COCO file, a class or category id that the file lacks.
    """
    try:
        data = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise DataError(f"ann_file of CocoMetric: {path} does not exist") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise DataError(f"ann_file of CocoMetric: {path} is not JSON: {problem}") from None
    missing = [key for key in ("images", "categories") if not isinstance(data, dict) or key not in data]
    if missing:
        raise DataError(f"ann_file of CocoMetric: {path} has no {' and no '.join(map(repr, missing))}: not a COCO file")
    data.setdefault("annotations", [])
    for number, annotation in enumerate(data["annotations"], start=1):
        annotation.setdefault("id", number)
        annotation.setdefault("iscrowd", 0)
        if "bbox" not in annotation:
            raise DataError(f"{path}: annotation {annotation['id']} has no 'bbox'")
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    by_name = {category["name"]: category["id"] for category in data["categories"]}
    if category_ids is None:
        for name in classes:
            if name not in by_name:
                raise DataError(f"{path} has no category {name!r}\n  {suggestion(name, by_name)}")
        category_ids = [by_name[name] for name in classes]
    unknown = sorted(set(category_ids) - set(by_name.values()))
    if unknown:
        raise DataError(
            f"{path} has no categories with the ids {unknown}, which the dataset uses; is it the test set's file?"
        )
    return CocoTruth(data, tuple(classes), tuple(category_ids), tuple(image["id"] for image in data["images"]))


def truth_from_records(
    records: Sequence[ImageRecord], classes: Sequence[str], category_ids: Sequence[int] | None = None
) -> CocoTruth:
    """The ground truth of a dataset that has no COCO file.

    Areas are those of the boxes, also for masks, as in MMDetection; ignored objects (VOC's difficult ones) are crowds.
    Without `category_ids` the label is the id.
    """
    ids = tuple(range(len(classes))) if category_ids is None else tuple(category_ids)
    annotations: list[dict[str, Any]] = []
    for record in records:
        for index, box in enumerate(record.boxes.astype(float).tolist()):
            x1, y1, x2, y2 = box
            annotation = {
                "id": len(annotations) + 1,  # the evaluators take 0 for "not matched"
                "image_id": record.image_id,
                "category_id": ids[int(record.labels[index])],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(record.ignore[index]),
            }
            if record.segments is not None:
                annotation["segmentation"] = _plain_segment(record.segments[index])
            annotations.append(annotation)
    images = [
        {"id": r.image_id, "file_name": Path(r.path).name, "height": int(r.height), "width": int(r.width)}
        for r in records
    ]
    categories = [{"id": i, "name": name} for i, name in zip(ids, classes, strict=True)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    return CocoTruth(data, tuple(classes), ids, tuple(r.image_id for r in records))


def _plain_segment(segment: Segment) -> Any:
    if isinstance(segment, dict):
        return segment
    return [np.asarray(polygon, dtype=float).tolist() for polygon in segment]
