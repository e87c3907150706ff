"""Converters: what comes out is what the source's own reader sees."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastdet.data.check import check_coco_file
from fastdet.data.convert import convert_masks, convert_voc
from fastdet.data.datasets import CocoDataset, VOCDataset
from fastdet.data.masks import rle_to_bitmap
from fastdet.utils.errors import DataError


@pytest.fixture
def mask_folders(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        for folder in ("images", "masks"):
            (tmp_path / "ids" / name / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "ids" / name / "images" / f"{name}.png"), np.full((6, 8, 4), 255, np.uint8))
    for number, (rows, columns) in enumerate([(slice(1, 4), slice(2, 6)), (slice(0, 6), slice(7, 8)), (None, None)]):
        bitmap = np.zeros((6, 8), np.uint8)
        if rows is not None:
            bitmap[rows, columns] = 255
        cv2.imwrite(str(tmp_path / "ids" / "a" / "masks" / f"{number}.png"), bitmap)
    return tmp_path


def test_masks_become_rles_boxes_and_areas(mask_folders: Path, tmp_path: Path) -> None:
    (path,) = convert_masks(mask_folders / "ids", tmp_path / "out", class_name="nucleus")
    assert path.name == "instances.json"
    data = json.loads(path.read_text())
    assert data["categories"] == [{"id": 1, "name": "nucleus"}]
    assert data["images"] == [
        {"id": 1, "file_name": "a/images/a.png", "width": 8, "height": 6},
        {"id": 2, "file_name": "b/images/b.png", "width": 8, "height": 6},
    ]
    first, second = data["annotations"]  # the empty mask is left out
    assert (first["bbox"], first["area"], first["id"]) == ([2, 1, 4, 3], 12, 1)
    assert (second["bbox"], second["area"], second["id"]) == ([7, 0, 1, 6], 6, 2)
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 2:6] = 1
    np.testing.assert_array_equal(rle_to_bitmap(first["segmentation"]), expected)
    assert rle_to_bitmap(second["segmentation"]).sum() == 6
    assert check_coco_file(str(path), str(tmp_path / "out" / "images"), full=True).ok


def test_the_link_to_the_images_is_renewed_but_no_folder_is_lost(mask_folders: Path, tmp_path: Path) -> None:
    convert_masks(mask_folders / "ids", tmp_path / "out")
    convert_masks(mask_folders / "ids", tmp_path / "out")
    (tmp_path / "kept" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"images exists already"):
        convert_masks(mask_folders / "ids", tmp_path / "kept")


def test_splits_beside_the_folder_give_a_file_each(mask_folders: Path, tmp_path: Path) -> None:
    (mask_folders / "splits").mkdir()
    (mask_folders / "splits" / "val.txt").write_text("b\n")
    (mask_folders / "splits" / "train.txt").write_text("a\n")
    written = convert_masks(mask_folders, tmp_path / "out")
    assert [path.name for path in written] == ["train.json", "val.json"]
    assert json.loads(written[1].read_text())["annotations"] == []


def test_mask_folders_that_do_not_fit_are_errors(mask_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folders <id>/masks"):
        convert_masks(tmp_path / "ids" / "a" / "images", tmp_path / "out")
    cv2.imwrite(str(mask_folders / "ids" / "b" / "masks" / "0.png"), np.zeros((8, 6), np.uint8))
    with pytest.raises(DataError, match=r"0\.png: a mask of H x W = \(8, 6\), an image of 6 x 8"):
        convert_masks(mask_folders / "ids", tmp_path / "out")


@pytest.mark.slow
def test_nuclei_convert_whole(shared: Path, tmp_path: Path) -> None:
    written = convert_masks(shared / "nuclei_dsb2018", tmp_path, class_name="nucleus")
    images = str(shared / "nuclei_dsb2018" / "stage1_train")
    reports = [check_coco_file(str(path), images) for path in written]
    assert [r.counts["images"] for r in reports] == [74, 18]
    assert sum(r.counts["boxes"] for r in reports) == 2853
    assert all(r.ok and not r.warnings for r in reports)


def test_voc_converted_equals_voc_read(shared: Path, tmp_path: Path) -> None:
    root = shared / "bccd" / "BCCD"
    written = convert_voc(root, tmp_path)
    assert [path.stem for path in written] == ["test", "train", "trainval", "val"]
    classes = ("RBC", "WBC", "Platelets")
    coco = CocoDataset(str(tmp_path / "test.json"), str(root / "JPEGImages"), classes=classes)
    voc = VOCDataset(str(root / "ImageSets/Main/test.txt"), str(root), classes=classes)
    assert len(coco) == len(voc) == 72
    for i in range(72):
        np.testing.assert_array_equal(coco.record(i).boxes, voc.record(i).boxes)
        np.testing.assert_array_equal(coco.record(i).labels, voc.record(i).labels)
        assert coco.record(i).path == voc.record(i).path
