"""Open Images in both of its forms, from files made by hand."""

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fastdet.data.datasets import OpenImagesChallengeDataset, OpenImagesDataset
from fastdet.utils.errors import DataError

BOXES = """ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside
b1,xclick,/m/cat,1,0.1,0.5,0.25,0.75,0,0,0,0,0
b1,xclick,/m/dog,1,0.0,1.0,0.0,1.0,0,0,1,0,0
a2,xclick,/m/dog,1,0.5,1.0,0.5,1.0,0,0,0,0,0
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "boxes.csv").write_text(BOXES)
    (tmp_path / "classes.csv").write_text("/m/dog,Dog\n/m/cat,Cat\n/m/pet,Pet\n/m/animal,Animal\n")
    (tmp_path / "verified.csv").write_text("ImageID,Source,LabelName,Confidence\nb1,verification,/m/pet,0\n")
    pets = {"LabelName": "/m/pet", "Subcategory": [{"LabelName": "/m/dog"}, {"LabelName": "/m/cat"}]}
    tree = {"LabelName": "/m/root", "Subcategory": [{"LabelName": "/m/animal", "Subcategory": [pets]}]}
    (tmp_path / "tree.json").write_text(json.dumps(tree))
    metas = [{"filename": f"x/{name}.jpg", "ori_shape": (40, 80, 3)} for name in ("b1", "a2")]
    (tmp_path / "metas.pkl").write_bytes(pickle.dumps(metas))
    names = {"ann_file": "boxes.csv", "label_file": "classes.csv", "hierarchy_file": "tree.json"}
    names |= {"meta_file": "metas.pkl", "image_level_ann_file": "verified.csv"}
    return {key: str(tmp_path / name) for key, name in names.items()} | {"image_dir": "images"}


def test_boxes_groups_and_the_hierarchy(files: dict[str, Any]) -> None:
    dataset = OpenImagesDataset(**files, filter_empty_gt=True, min_size=1000)
    assert dataset.classes == ("Dog", "Cat", "Pet", "Animal")
    first, second = dataset.record(0), dataset.record(1)
    assert (first.image_id, first.path, first.height, first.width) == ("b1", "images/b1.jpg", 40, 80)
    np.testing.assert_allclose(first.boxes, [[8, 10, 40, 30], [0, 0, 80, 40]], rtol=1e-6)
    assert first.labels.tolist() == [1, 0]
    assert first.group_of.tolist() == [False, True]
    assert first.verified.tolist() == [2]
    assert (second.group_of.tolist(), second.verified.tolist()) == ([False], [])
    np.testing.assert_array_equal(
        dataset.relations.astype(int), [[1, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    )


def test_sizes_come_from_the_pictures_where_no_file_has_them(files: dict[str, Any], tmp_path: Path) -> None:
    for name in ("b1", "a2"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.zeros((20, 10, 3), np.uint8))
    del files["meta_file"]
    record = OpenImagesDataset(**{**files, "image_dir": str(tmp_path)}).record(1)
    np.testing.assert_allclose(record.boxes, [[5, 10, 10, 20]])


def test_the_challenge(files: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("val/b1.jpg\n-\n2\n2 0.1 0.25 0.5 0.75 0\n1 0 0 1 1 1\nval/a2.jpg\n-\n0\n")
    (tmp_path / "challenge.csv").write_text("/m/cat,Cat,2\n/m/dog,Dog,1\n")
    (tmp_path / "labels.csv").write_text("ImageID,LabelName,Confidence\nb1,/m/cat,1\n")
    with (tmp_path / "tree.np").open("wb") as file:
        np.save(file, np.array([[0, 0, 0], [0, 1, 1], [0, 0, 1]], float))
    dataset = OpenImagesChallengeDataset(
        str(tmp_path / "boxes.txt"), "images", str(tmp_path / "challenge.csv"), str(tmp_path / "tree.np"),
        files["meta_file"], str(tmp_path / "labels.csv"),
    )  # fmt: skip
    assert dataset.classes == ("Dog", "Cat")
    record = dataset.record(0)
    assert (record.image_id, record.path) == ("b1", "images/val/b1.jpg")
    assert record.labels.tolist() == [1, 0]
    assert record.group_of.tolist() == [False, True]
    assert record.verified.tolist() == [1]
    assert dataset.relations.tolist() == [[True, True], [False, True]]
    assert len(dataset.record(1).boxes) == 0


def test_files_that_do_not_belong_together_are_errors(files: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "few.pkl").write_bytes(pickle.dumps([]))
    with pytest.raises(DataError, match=r"few\.pkl: the sizes of 2 images are needed"):
        OpenImagesDataset(**{**files, "meta_file": str(tmp_path / "few.pkl")})
    (tmp_path / "classes.csv").write_text("/m/dog,Dog\n")
    with pytest.raises(DataError, match=r"boxes\.csv: the class '/m/cat' is not in label_file"):
        OpenImagesDataset(**files)
    with pytest.raises(DataError, match=r"no\.csv: annotation file cannot be read"):
        OpenImagesDataset(**{**files, "ann_file": str(tmp_path / "no.csv")})
