"""VOC folders: corners, difficult objects, filters, faults."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fastdet.data.datasets import VOC_CLASSES, VOCDataset
from fastdet.utils.errors import DataError

OBJECT = "<object><name>{name}</name>{extra}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def voc_object(name: str, *box: float, extra: str = "<difficult>0</difficult>") -> str:
    return OBJECT.format(*box, name=name, extra=extra)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder).mkdir()
    images = {
        "a": voc_object("dog", 1, 1, 20, 10) + voc_object("cat", "3.7", 2, 9, 8, extra="<difficult>1</difficult>"),
        "b": voc_object("horse", 1, 1, 20, 10),
        "c": voc_object("cat", 5, 5, 5, 9) + voc_object("cat", 2, 2, 4, 9, extra=""),
    }
    for name, objects in images.items():
        size = "<size><width>40</width><height>30</height><depth>3</depth></size>" if name != "c" else ""
        (tmp_path / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        cv2.imwrite(str(tmp_path / "JPEGImages" / f"{name}.jpg"), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "all.txt").write_text("a\nb\n\nc -1\n")
    return tmp_path


def load(root: Path, **options: Any) -> VOCDataset:
    return VOCDataset(str(root / "all.txt"), str(root), classes=("cat", "dog"), **options)


def test_corners_become_zero_based_and_fractions_are_cut(root: Path) -> None:
    dataset = load(root)
    record = dataset.record(0)
    np.testing.assert_array_equal(record.boxes, [[0, 0, 19, 9], [2, 1, 8, 7]])
    np.testing.assert_array_equal(record.labels, [1, 0])
    np.testing.assert_array_equal(record.ignore, [False, True])
    assert record.path == str(root / "JPEGImages" / "a.jpg")
    assert record.segments is None
    assert len(dataset) == 3


def test_boxes_of_zero_size_are_dropped_and_counted(root: Path) -> None:
    dataset = load(root)
    np.testing.assert_array_equal(dataset.record(2).boxes, [[1, 1, 3, 8]])
    assert dataset.report.warnings["boxes of zero size are not used"].count == 1


def test_a_missing_size_comes_from_the_image(root: Path) -> None:
    record = load(root).record(2)
    assert (record.height, record.width) == (30, 40)


def test_filters(root: Path) -> None:
    assert [load(root, filter_empty_gt=True).record(i).image_id for i in range(2)] == ["a", "c"]
    assert len(load(root, min_size=31)) == 0
    assert len(load(root, min_size=31, filter_empty_gt=True, test_mode=True)) == 3


def test_small_boxes_are_ignored_outside_tests(root: Path) -> None:
    np.testing.assert_array_equal(load(root, bbox_min_size=9).record(0).ignore, [False, True])
    np.testing.assert_array_equal(load(root, bbox_min_size=10).record(0).ignore, [True, True])
    np.testing.assert_array_equal(load(root, bbox_min_size=10, test_mode=True).record(0).ignore, [False, True])


def test_names_that_do_not_match_show_both_lists(root: Path) -> None:
    with pytest.raises(DataError, match=r"'bird'\n.*'dog' \(1 boxes\), 'cat' \(3 boxes\), 'horse' \(1 boxes\)"):
        VOCDataset(str(root / "all.txt"), str(root), classes=("bird",))


def test_faults_are_errors(root: Path) -> None:
    (root / "all.txt").write_text("a\na\nmissing\n")
    with pytest.raises(DataError, match=r"image ids are not unique: 'a'\n.*missing\.xml: annotation cannot be read"):
        load(root)
    (root / "all.txt").write_text("a\n")
    (root / "Annotations" / "a.xml").write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"a\.xml: annotation is no valid XML"):
        load(root)
    (root / "Annotations" / "a.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    with pytest.raises(DataError, match=r"a\.xml: annotation has a value that is no number.*object 0 has no xmin"):
        load(root)
    with pytest.raises(DataError, match="list of image ids cannot be read"):
        VOCDataset(str(root / "none.txt"), str(root))


@pytest.mark.parametrize(("split", "images"), [("train", 205), ("val", 87), ("trainval", 292), ("test", 72)])
def test_counts_of_bccd(shared: Path, split: str, images: int) -> None:
    root = shared / "bccd" / "BCCD"
    dataset = VOCDataset(str(root / f"ImageSets/Main/{split}.txt"), str(root), classes=("RBC", "WBC", "Platelets"))
    assert len(dataset) == images
    assert not any(dataset.record(i).ignore.any() for i in range(len(dataset)))


def test_boxes_of_bccd(shared: Path) -> None:
    root = shared / "bccd" / "BCCD"
    parts = [
        VOCDataset(str(root / f"ImageSets/Main/{split}.txt"), str(root), classes=("RBC", "WBC", "Platelets"))
        for split in ("trainval", "test")
    ]
    counts = [sum(part.file_counts[name] for part in parts) for name in ("RBC", "WBC", "Platelets")]
    assert counts == [4155, 372, 361]
    assert sum(part.table.num_boxes for part in parts) == 4888 - 2  # two of zero size


@pytest.mark.parametrize(("year", "names"), [("VOC2007", {"dog", "person"}), ("VOC2012", None)])
def test_the_small_devkits(shared: Path, year: str, names: set[str] | None) -> None:
    root = shared / "photos" / "VOCdevkit" / year
    lists = sorted((root / "ImageSets" / "Main").glob("*.txt"))
    dataset = VOCDataset(str(lists[0]), str(root))
    assert dataset.classes == VOC_CLASSES
    record = dataset.record(0)
    assert (record.height, record.width) == ((500, 353) if year == "VOC2007" else (500, 335))
    if names:
        assert {VOC_CLASSES[label] for label in record.labels} == names
