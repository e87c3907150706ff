"""The generated set: the same bytes for the same seed, annotations that fit the pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fastdet.data.datasets import CocoDataset
from fastdet.data.masks import mask_areas, mask_boxes, polygons_to_bitmap
from fastdet.data.shapes import SHAPE_CLASSES, ShapesConfig, draw_image, write_shapes

SMALL = ShapesConfig(num_train=6, num_val=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_shapes(tmp_path / name, SMALL)
    write_shapes(tmp_path / "other", ShapesConfig(num_train=6, num_val=3, seed=1))
    first, second, other = (contents(tmp_path / name) for name in ("first", "second", "other"))
    assert first == second
    assert len(first) == 6 + 3 + 2
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)
    assert first["train/train_00000.png"] != first["val/val_00000.png"]


def test_a_larger_set_starts_with_the_smaller_one(tmp_path: Path) -> None:
    write_shapes(tmp_path / "small", SMALL)
    write_shapes(tmp_path / "large", ShapesConfig(num_train=8, num_val=3))
    small, large = contents(tmp_path / "small"), contents(tmp_path / "large")
    assert all(large[name] == data for name, data in small.items() if name.endswith(".png"))


def test_annotations_fit_the_pictures(tmp_path: Path) -> None:
    config = ShapesConfig(num_train=40, num_val=0)
    file = write_shapes(tmp_path, config)["train"]
    dataset = CocoDataset(str(file), str(tmp_path / "train"), classes=SHAPE_CLASSES)
    assert dataset.report.ok
    assert not dataset.report.warnings
    labels = []
    for i in range(len(dataset)):
        record = dataset.record(i)
        image = cv2.imread(record.path)
        assert image.shape == (128, 128, 3)
        assert 1 <= len(record.boxes) <= 4
        bitmaps = np.stack([polygons_to_bitmap(s, (128, 128)) for s in record.segments])
        assert bitmaps.sum(axis=0).max() == 1  # nothing overlaps
        np.testing.assert_allclose(record.boxes, mask_boxes(list(record.segments)), atol=0)
        # The tip of the steepest triangle, 70 high on 20, is narrower than a pixel for 3.5 of its rows.
        assert np.abs(mask_boxes(bitmaps) - record.boxes).max() <= 3.5
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        assert sides.min() >= 19
        assert sides.max() <= 70
        for bitmap in bitmaps:
            inside = image[cv2.erode(bitmap, np.ones((3, 3), np.uint8)) > 0].reshape(-1, 3)
            assert inside.std(axis=0).max() < 12  # one colour and its noise
        labels += record.labels.tolist()
    # 40 images have about 100 objects: each class about 33, five standard deviations are 24.
    assert all(labels.count(label) > 9 for label in range(3))


def test_areas_in_the_file_are_set_pixels() -> None:
    _, objects = draw_image(np.random.default_rng(1), ShapesConfig())
    for item in objects:
        polygon = np.array(item["segmentation"][0])
        assert item["area"] == polygons_to_bitmap([polygon], (128, 128)).sum()
        assert abs(item["area"] - mask_areas([[polygon]])[0]) <= 4 * (item["bbox"][2] + item["bbox"][3]) / 2


@pytest.mark.parametrize("options", [dict(min_side=3), dict(max_side=128), dict(min_side=60, max_side=50)])
def test_impossible_sides_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="min_side <= max_side < image_size"):
        ShapesConfig(**options)
