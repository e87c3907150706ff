"""COCO files: which boxes become objects, labels, segments, faults."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdet.data.datasets import COCO_CLASSES, CocoDataset
from fastdet.utils.errors import DataError

CocoSet = Callable[..., tuple[str, str]]


def add(data: dict[str, Any], **entry: Any) -> None:
    box = entry.get("bbox", [1, 1, 4, 4])
    data["annotations"].append(
        {"id": 50 + len(data["annotations"]), "image_id": 102, "category_id": 7, "bbox": box, "area": 16, **entry}
    )


def test_records_have_xyxy_boxes_in_file_order(coco_set: CocoSet) -> None:
    dataset = CocoDataset(*coco_set(), classes=("dog", "cat"))
    assert len(dataset) == 6
    record = dataset.record(1)
    assert (record.image_id, record.height, record.width) == (101, 30, 40)
    np.testing.assert_array_equal(record.boxes, [[5, 5, 25, 15], [0, 0, 8, 8]])
    assert record.boxes.dtype == np.float32
    np.testing.assert_array_equal(record.labels, [1, 0])
    assert not record.ignore.any()
    assert dataset.record(2).boxes.shape == (0, 4)
    assert dataset.aspect_ratio(0) == 30 / 40


def test_labels_follow_the_classes_given(coco_set: CocoSet) -> None:
    dataset = CocoDataset(*coco_set(), classes=("cat", "dog"))
    np.testing.assert_array_equal(dataset.record(1).labels, [0, 1])
    assert dataset.category_ids == (3, 7)
    assert any("order" in text for text in dataset.report.warnings)
    assert not CocoDataset(*coco_set(), classes=("dog", "cat")).report.warnings


def test_a_class_of_the_config_alone_has_no_category(coco_set: CocoSet) -> None:
    dataset = CocoDataset(*coco_set(), classes=("bird", "cat"))
    assert dataset.category_ids == (-1, 3)
    assert [len(dataset.record(i).boxes) for i in range(6)] == [0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ({}, 1),
        ({"bbox": [1, 1, 0.9, 5]}, 0),
        ({"bbox": [1, 1, 1, 1]}, 1),
        ({"bbox": [1, 1, 5, 0]}, 0),
        ({"area": 0}, 0),
        ({"ignore": 1}, 0),
        ({"bbox": [45, 1, 5, 5]}, 0),
        ({"bbox": [-5, 1, 5, 5]}, 0),
        ({"bbox": [-3, 25, 50, 50]}, 1),
        ({"iscrowd": 1}, 1),
    ],
)
def test_unusable_boxes_are_dropped(coco_set: CocoSet, entry: dict, kept: int) -> None:
    dataset = CocoDataset(*coco_set(lambda data: add(data, **entry)), classes=("dog", "cat"))
    record = dataset.record(2)
    assert len(record.boxes) == kept
    if kept:
        assert record.ignore[0] == bool(entry.get("iscrowd"))
        x, y, w, h = entry.get("bbox", [1, 1, 4, 4])
        np.testing.assert_array_equal(record.boxes[0], [x, y, x + w, y + h])


def test_filters_drop_empty_and_small_images(coco_set: CocoSet) -> None:
    def ids(**options: Any) -> list:
        dataset = CocoDataset(*coco_set(lambda data: add(data, iscrowd=1)), classes=("dog", "cat"), **options)
        return [dataset.record(i).image_id for i in range(len(dataset))]

    # Image 102 has a crowd alone: it counts as an annotation, as in MMDetection.
    assert ids(filter_empty_gt=True) == [100, 101, 102, 103]
    assert ids(min_size=31) == []
    assert ids(min_size=30) == [100, 101, 102, 103, 104, 105]
    assert ids(filter_empty_gt=True, min_size=31, test_mode=True) == [100, 101, 102, 103, 104, 105]


def test_segments_are_polygons_or_packed_rles(coco_set: CocoSet) -> None:
    def change(data: dict) -> None:
        add(data, segmentation={"size": [30, 40], "counts": [0, 3, 1197]}, iscrowd=1)
        add(data, segmentation=[[1, 1, 2, 2], [1, 1, 2, 1, 2, 2, 1]])
        add(data)

    dataset = CocoDataset(*coco_set(change), classes=("dog", "cat"))
    first, second = dataset.record(1).segments
    np.testing.assert_array_equal(first[0], [5, 5, 25, 5, 25, 15, 5, 15])
    np.testing.assert_array_equal(second[0], [0, 0, 8, 0, 8, 8, 0, 8])
    rle, bad, none = dataset.record(2).segments
    assert isinstance(rle["counts"], bytes)
    assert bad == []
    assert none == []
    assert dataset.report.warnings["boxes without a usable mask"].count == 2


def test_names_that_do_not_match_show_both_lists(coco_set: CocoSet) -> None:
    with pytest.raises(DataError) as caught:
        CocoDataset(*coco_set(), classes=("Dog", "Cat"))
    message = str(caught.value)
    assert "class names do not match the annotations" in message
    assert "'Dog', 'Cat'" in message
    assert "'dog' (2 boxes), 'cat' (2 boxes)" in message
    assert "0 of 4 boxes would be used" in message
    assert "metainfo=dict(classes=('dog', 'cat'))" in message


def test_a_known_class_without_boxes_is_a_warning(coco_set: CocoSet) -> None:
    dataset = CocoDataset(*coco_set(lambda d: d["categories"].append({"id": 9, "name": "cow"})), classes=("cow",))
    assert "no box of these classes can be used" in dataset.report.warnings
    assert dataset.report.warnings["boxes of other classes are not used"].count == 4


def test_a_fix_keeps_the_order_of_the_config_and_long_lists_are_cut(coco_set: CocoSet) -> None:
    with pytest.raises(DataError, match=r"fix: metainfo=dict\(classes=\('cat', 'dog'\)\)"):
        CocoDataset(*coco_set(), classes=("Cat", "DOG", "Bird"))
    with pytest.raises(DataError, match=r"'c19', \.\.\. 5 more\n"):
        CocoDataset(*coco_set(), classes=[f"c{i}" for i in range(25)])


def test_cocos_names_are_the_default(coco_set: CocoSet) -> None:
    dataset = CocoDataset(*coco_set())
    assert dataset.classes == COCO_CLASSES
    np.testing.assert_array_equal(dataset.record(1).labels, [15, 16])  # cat, dog


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["images"].append(dict(d["images"][0])), "image ids are not unique"),
        (lambda d: d["annotations"].append(dict(d["annotations"][0])), "annotation ids are not unique"),
        (lambda d: add(d, image_id=999), "annotations of an image id that the file does not list: id 999"),
        (lambda d: add(d, category_id=999), "annotations of a category id that the file does not list: id 999"),
        (lambda d: add(d, bbox=[1, 2, 3]), "boxes that are not four finite numbers"),
        (lambda d: add(d, bbox=[1, 2, float("nan"), 3]), "boxes that are not four finite numbers"),
        (lambda d: d["images"][0].pop("file_name"), "images without file_name: entry 0"),
        (lambda d: d["images"][0].update(height=0), "images of zero size"),
        (lambda d: d.pop("categories"), "not a COCO file"),
    ],
)
def test_faults_of_the_file_are_errors(coco_set: CocoSet, change: Callable, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CocoDataset(*coco_set(change), classes=("dog", "cat"))


def test_unreadable_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: annotation file cannot be read"):
        CocoDataset(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"bad\.json: annotation file is no valid JSON"):
        CocoDataset(str(tmp_path / "bad.json"))


@pytest.mark.parametrize(("split", "boxes", "crowd"), [("train", 705, 6), ("val", 815, 11)])
def test_counts_of_coco_tiny(shared: Path, split: str, boxes: int, crowd: int) -> None:
    root = shared / "coco_tiny"
    dataset = CocoDataset(
        str(root / f"annotations/instances_{split}2017.json"), str(root / f"{split}2017"), filter_empty_gt=True,
        min_size=32,
    )  # fmt: skip
    records = [dataset.record(i) for i in range(len(dataset))]
    assert len(records) == 80
    assert sum(len(r.boxes) for r in records) == boxes
    assert sum(int(r.ignore.sum()) for r in records) == crowd
    assert {int(label) for r in records for label in r.labels} == set(range(80))
    assert dataset.category_ids[:2] + dataset.category_ids[-1:] == (1, 2, 90)
