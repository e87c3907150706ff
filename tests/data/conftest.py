"""Fixtures of the data tests: real data beside the repository, small files made by hand, sample makers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fastdet.structures import Sample

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def shared() -> Path:
    """The folder of real data; tests that need it are skipped on machines without it."""
    if not SHARED.is_dir():
        pytest.skip(f"the real data are not at {SHARED}")
    return SHARED


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    """A sample with random pixels, boxes as given, and masks if given."""

    def make(
        height: int = 10, width: int = 20, boxes: Any = ((2, 1, 6, 5), (10, 4, 18, 9)), masks: Any = None
    ) -> Sample:
        array = np.array(boxes, np.float32).reshape(-1, 4)
        image = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Sample(
            image=image, boxes=array, labels=np.arange(len(array)), ignore=np.zeros(len(array), bool), masks=masks,
            image_id=1, path="made.png", file_size=(height, width),
        )  # fmt: skip

    return make


@pytest.fixture
def coco_set(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Writes a COCO set: six images in both orientations, some annotations; returns (JSON file, image folder)."""

    def write(change: Callable[[dict[str, Any]], None] | None = None) -> tuple[str, str]:
        rng = np.random.default_rng(3)
        images = []
        for i in range(6):
            width, height = (40, 30) if i % 3 else (30, 40)
            cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            images.append({"id": 100 + i, "file_name": f"{i}.png", "width": width, "height": height})
        boxes = [(100, [1, 2, 10, 12]), (101, [5, 5, 20, 10]), (101, [0, 0, 8, 8]), (103, [2, 2, 9, 9])]
        annotations = [
            {
                "id": k + 1, "image_id": image, "category_id": 3 if k % 2 else 7, "bbox": box,
                "area": box[2] * box[3], "iscrowd": 0,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }
            for k, (image, box) in enumerate(boxes)
            for x, y, w, h in [box]
        ]  # fmt: skip
        categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
        data = {"images": images, "annotations": annotations, "categories": categories}
        if change is not None:
            change(data)
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(data))
        return str(path), str(tmp_path)

    return write
