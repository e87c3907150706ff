"""Sets in COCO's and VOC's formats with habits of their own; semantic maps and proposals beside the images."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fastdet.data.collate import collate
from fastdet.data.datasets import (
    CityscapesDataset,
    CocoDataset,
    DeepFashionDataset,
    LVISV05Dataset,
    LVISV1Dataset,
    Objects365V1Dataset,
    Objects365V2Dataset,
    WIDERFaceDataset,
)
from fastdet.data.transforms import LoadAnnotations, LoadImageFromFile, LoadProposals, Pad, RandomFlip, Resize
from fastdet.data.transforms.crop import crop_sample
from fastdet.utils.errors import DataError

CLASSES = ("dog", "cat")


def coco_file(folder: Path, images: list[dict[str, Any]], categories: list[dict[str, Any]], **more: Any) -> str:
    sized = [{"width": 8, "height": 6, "id": number, **image} for number, image in enumerate(images)]
    annotations = [
        {"id": k + 1, "image_id": k, "category_id": categories[0]["id"], "bbox": [1, 1, 4, 4], "area": 16, **more}
        for k in range(len(images))
    ]
    path = folder / "set.json"
    path.write_text(json.dumps({"images": sized, "annotations": annotations, "categories": categories}))
    return str(path)


def test_lvis_takes_the_files_own_classes_and_addresses(tmp_path: Path) -> None:
    categories = [{"id": 5, "name": "aerosol_can"}, {"id": 9, "name": "acorn"}]
    image = {"coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg"}
    first = LVISV1Dataset(coco_file(tmp_path, [image], categories), "coco")
    assert first.classes == ("aerosol_can", "acorn")
    assert first.category_ids == (5, 9)
    assert first.record(0).path == "coco/train2017/000000391895.jpg"
    old = coco_file(tmp_path, [{"file_name": "COCO_val2014_000000391895.jpg"}, {"file_name": "7.jpg"}], categories)
    second = LVISV05Dataset(old, "coco")
    assert [second.record(i).path for i in range(2)] == ["coco/000000391895.jpg", "coco/7.jpg"]
    assert LVISV05Dataset(old, "coco", classes=("acorn", "aerosol_can")).record(0).labels.tolist() == [1]


def test_objects365_orders_classes_by_id_and_leaves_lost_images_out(tmp_path: Path) -> None:
    categories = [{"id": 9, "name": "Lamp"}, {"id": 2, "name": "Person"}]
    assert Objects365V1Dataset(coco_file(tmp_path, [{"file_name": "a.jpg"}], categories)).classes == ("Person", "Lamp")
    images = [{"file_name": f"images/v1/{name}"} for name in ("patch8/a.jpg", "patch6/objects365_v1_00320532.jpg")]
    second = Objects365V2Dataset(coco_file(tmp_path, images, categories), "train")
    assert second.classes == ("Lamp", "Person")
    assert [second.record(i).path for i in range(len(second))] == ["train/patch8/a.jpg"]


def test_cityscapes_counts_crowds_as_nothing(tmp_path: Path) -> None:
    categories = [{"id": 26, "name": "car"}]
    file = coco_file(tmp_path, [{"file_name": "a.png"}], categories, iscrowd=1)
    assert len(CityscapesDataset(file, filter_empty_gt=True)) == 0
    assert len(CityscapesDataset(file)) == 1
    assert len(CityscapesDataset(coco_file(tmp_path, [{"file_name": "a.png"}], categories), filter_empty_gt=True)) == 1
    assert CityscapesDataset(file).classes[2] == "car"
    face = coco_file(tmp_path, [{"file_name": "a.png"}], [{"id": 1, "name": "face"}])
    assert DeepFashionDataset(face).record(0).labels.tolist() == [14]


def test_wider_face_finds_images_in_their_folders_and_counts_pixels_from_zero(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "p1.xml").write_text(
        "<annotation><folder>0--Parade</folder><size><width>9</width><height>7</height></size><object><name>face</name>"
        "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>"
    )
    (tmp_path / "train.txt").write_text("p1\n")
    record = WIDERFaceDataset(str(tmp_path / "train.txt"), str(tmp_path)).record(0)
    assert record.path == str(tmp_path / "0--Parade" / "p1.jpg")
    assert record.boxes.tolist() == [[1, 2, 5, 6]]


@pytest.fixture
def with_maps(coco_set: Callable[..., tuple[str, str]], tmp_path: Path) -> tuple[str, str, str]:
    """A COCO set with semantic maps: class 7 to the left of column 10, 3 beside, 0 in the first row."""
    file, folder = coco_set()
    (tmp_path / "maps").mkdir()
    for image in json.loads(Path(file).read_text())["images"]:
        pixels = np.full((image["height"], image["width"]), 3, np.uint8)
        pixels[:, :10] = 7
        pixels[0] = 0
        cv2.imwrite(str(tmp_path / "maps" / Path(image["file_name"]).with_suffix(".png")), pixels)
    return file, folder, str(tmp_path / "maps")


def test_semantic_maps_follow_every_transform_into_the_batch(with_maps: tuple[str, str, str]) -> None:
    file, folder, maps = with_maps
    steps = (LoadImageFromFile(), LoadAnnotations(with_seg=True), Resize((80, 60)), RandomFlip(1.0))
    dataset = CocoDataset(file, folder, CLASSES, seg_dir=maps, transforms=steps)
    rng = np.random.default_rng(0)
    sample = dataset.sample(1, rng)  # 30 x 40 (H x W), doubled
    assert sample.semantic is not None
    assert (sample.semantic[2:, 60:] == 7).all()
    assert (sample.semantic[2:, :60] == 3).all()
    assert (sample.semantic[:2] == 0).all()
    part = crop_sample(sample, (50, 0, 20, 30))
    assert (part.semantic[2:, 10:] == 7).all()
    padded = Pad(size=(32, 32))(part, rng)
    assert (padded.semantic[30:] == 255).all()
    assert (padded.semantic[:, 20:] == 255).all()
    batch = collate([part, padded], pad_divisor=8)
    assert batch.targets.semantic.shape == (2, 32, 32)
    assert (batch.targets.semantic[0, :, 20:] == 255).all()
    np.testing.assert_array_equal(batch.targets.semantic[1].numpy(), padded.semantic)


def test_the_first_class_of_a_map_can_count_nowhere(with_maps: tuple[str, str, str]) -> None:
    file, folder, maps = with_maps
    steps = (LoadImageFromFile(), LoadAnnotations(with_seg=True, reduce_zero_label=True))
    sample = CocoDataset(file, folder, CLASSES, seg_dir=maps, transforms=steps).sample(1, np.random.default_rng(0))
    assert set(np.unique(sample.semantic)) == {2, 6, 255}


def test_maps_that_do_not_fit_are_errors(with_maps: tuple[str, str, str]) -> None:
    file, folder, maps = with_maps
    steps = (LoadImageFromFile(), LoadAnnotations(with_seg=True))
    with pytest.raises(DataError, match=r"the dataset has no semantic maps"):
        CocoDataset(file, folder, CLASSES, transforms=steps).sample(0, np.random.default_rng(0))
    cv2.imwrite(str(Path(maps) / "0.png"), np.zeros((5, 5), np.uint8))
    with pytest.raises(DataError, match=r"0\.png: a map of H x W = 5 x 5, an image of 40 x 30"):
        CocoDataset(file, folder, CLASSES, seg_dir=maps, transforms=steps).sample(0, np.random.default_rng(0))
    cv2.imwrite(str(Path(maps) / "0.png"), np.zeros((40, 30, 3), np.uint8))
    with pytest.raises(DataError, match=r"one channel of 8 bits"):
        CocoDataset(file, folder, CLASSES, seg_dir=maps, transforms=steps).sample(0, np.random.default_rng(0))
    (Path(maps) / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png: semantic map cannot be read"):
        CocoDataset(file, folder, CLASSES, seg_dir=maps, transforms=steps).sample(0, np.random.default_rng(0))


@pytest.mark.parametrize("form", ["3.x", "2.x"])
def test_proposals_follow_every_transform_into_the_batch(coco_set: Callable, tmp_path: Path, form: str) -> None:
    file, folder = coco_set()
    boxes = np.array([[2, 1, 12, 11], [0, 0, 40, 30], [5, 5, 6, 6]], np.float32)
    scores = np.array([0.9, 0.8, 0.1], np.float32)
    content: Any = {f"{Path(folder).name}/{i}.png": {"bboxes": boxes + i, "scores": scores} for i in range(6)}
    if form == "2.x":
        content = [np.column_stack([boxes + i, scores]) for i in range(6)]
    path = tmp_path / "proposals.pkl"
    path.write_bytes(pickle.dumps(content))
    steps = (LoadImageFromFile(), LoadProposals(2), LoadAnnotations(), Resize((80, 60)), RandomFlip(1.0))
    dataset = CocoDataset(file, folder, CLASSES, proposal_file=str(path), transforms=steps)
    sample = dataset.sample(1, np.random.default_rng(0))
    # [3, 2, 13, 12] and [1, 1, 41, 31], doubled, clipped at 80 x 60, mirrored
    np.testing.assert_array_equal(sample.proposals, [[54, 4, 74, 24], [0, 2, 78, 60]])
    batch = collate([sample, crop_sample(sample, (50, 0, 30, 60))])
    assert batch.proposals is not None
    assert batch.proposals.boxes.shape == (2, 8, 4)
    assert batch.proposals.count.tolist() == [2, 2]
    np.testing.assert_array_equal(batch.proposals.boxes[1, :3], [[4, 4, 24, 24], [0, 2, 28, 60], [0, 0, 0, 0]])


def test_files_of_proposals_are_checked(coco_set: Callable, tmp_path: Path) -> None:
    file, folder = coco_set()
    path = tmp_path / "p.pkl"

    def load(content: Any) -> None:
        path.write_bytes(pickle.dumps(content))
        CocoDataset(file, folder, CLASSES, proposal_file=str(path))

    with pytest.raises(DataError, match=r"p\.pkl: 6 of 6 images have no proposals, for example '.*/0\.png'"):
        load({})
    with pytest.raises(DataError, match=r"proposals of 6 images are needed, the file holds 2 entries"):
        load([np.zeros((1, 4)), np.zeros((1, 4))])
    with pytest.raises(DataError, match=r"must be an array \[K, 4\] or \[K, 5\]"):
        load([np.zeros((1, 3))] * 6)
    with pytest.raises(DataError, match=r"it holds a pathlib\S*\.PosixPath, which is no array"):
        load([Path("x")] * 6)
    with pytest.raises(DataError, match=r"no\.pkl: proposals cannot be read"):
        CocoDataset(file, folder, CLASSES, proposal_file=str(tmp_path / "no.pkl"))
