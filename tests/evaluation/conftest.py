"""The part of the COCO sample that the metric tests share."""

import json
from pathlib import Path

import pytest

ANNOTATIONS = (
    Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_tiny" / "annotations" / "instances_val2017.json"
)
NUM_IMAGES = 16


@pytest.fixture(scope="session")
def coco_data() -> dict:
    """16 images of COCO, those with crowds first, and all 80 categories."""
    if not ANNOTATIONS.exists():
        pytest.skip(f"the COCO sample is not at {ANNOTATIONS}")
    data = json.loads(ANNOTATIONS.read_text())
    crowded = {a["image_id"] for a in data["annotations"] if a["iscrowd"]}
    images = sorted(data["images"], key=lambda image: image["id"] not in crowded)[:NUM_IMAGES]
    chosen = {image["id"] for image in images}
    return {**data, "images": images, "annotations": [a for a in data["annotations"] if a["image_id"] in chosen]}


@pytest.fixture(scope="session")
def coco_file(coco_data: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("coco") / "instances.json"
    path.write_text(json.dumps(coco_data))
    return path
