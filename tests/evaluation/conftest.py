"""The COCO sample that the metric tests share."""

import json
from pathlib import Path

import pytest

ANNOTATIONS = (
    Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_tiny" / "annotations" / "instances_val2017.json"
)


@pytest.fixture(scope="session")
def coco_file() -> Path:
    if not ANNOTATIONS.exists():
        pytest.skip(f"the COCO sample is not at {ANNOTATIONS}")
    return ANNOTATIONS


@pytest.fixture(scope="session")
def coco_data(coco_file: Path) -> dict:
    return json.loads(coco_file.read_text())
