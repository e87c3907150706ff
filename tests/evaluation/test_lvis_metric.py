"""LVIS's protocol, with numbers worked out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdet.evaluation import LVISMetric
from fastdet.evaluation.lvis_eval import best_of_each_image
from fastdet.structures import ImageMeta, Instances
from fastdet.utils.errors import DataError

CLASSES, IDS = ("acorn", "baboon"), (5, 3)
FOUND = [
    # A right acorn; a baboon where none is, and that was checked.
    ([[10, 10, 20, 20], [30, 30, 40, 40]], [0.9, 0.95], [0, 1]),
    # An acorn in an image where nobody looked for acorns.
    ([[10, 10, 20, 20]], [0.99], [0]),
    # A right baboon, and another where baboons are not annotated exhaustively.
    ([[50, 50, 60, 60], [0, 0, 9, 9]], [0.8, 0.99], [1, 1]),
]


@pytest.fixture
def truth(tmp_path: Path) -> str:
    def image(number: int, negative: list[int], not_exhaustive: list[int]) -> dict[str, Any]:
        return {
            "id": number, "width": 100, "height": 100, "neg_category_ids": negative,
            "not_exhaustive_category_ids": not_exhaustive,
        }  # fmt: skip

    def annotation(number: int, image_id: int, category: int, x: float, y: float) -> dict[str, Any]:
        corners = [x, y, x + 10, y, x + 10, y + 10, x, y + 10]
        return {
            "id": number, "image_id": image_id, "category_id": category, "bbox": [x, y, 10, 10], "area": 100,
            "segmentation": [corners],
        }  # fmt: skip

    path = tmp_path / "lvis.json"
    path.write_text(
        json.dumps(
            {
                "images": [image(1, [3], []), image(2, [], []), image(3, [], [3])],
                "annotations": [annotation(1, 1, 5, 10, 10), annotation(2, 3, 3, 50, 50)],
                "categories": [
                    {"id": 3, "name": "baboon", "frequency": "f"},
                    {"id": 5, "name": "acorn", "frequency": "r"},
                ],
            }
        )
    )
    return str(path)


def fill(metric: LVISMetric, *, with_masks: bool = False) -> dict[str, float]:
    for number, (boxes, scores, labels) in enumerate(FOUND, start=1):
        masks = torch.zeros((len(boxes), 100, 100), dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[y1:y2, x1:x2] = True
        instances = Instances(
            torch.tensor(boxes).float(), torch.tensor(scores), torch.tensor(labels), masks if with_masks else None
        )
        metric.update([instances], [ImageMeta(number, "", (100, 100), (100, 100), (1.0, 1.0))])
    return metric.compute()


def test_what_was_not_looked_for_counts_nowhere(truth: str) -> None:
    values = fill(LVISMetric(truth, classes=CLASSES, category_ids=IDS, classwise=True))
    # Acorns: one of one, AP 1. Baboons: a wrong one before the right one, AP 1 / 2.
    assert values["lvis/bbox_AP"] == pytest.approx(0.75)
    assert values["lvis/bbox_AP50"] == pytest.approx(0.75)
    assert values["lvis/bbox_APs"] == pytest.approx(0.75)  # 100 pixels are small
    assert values["lvis/bbox_APm"] == -1
    assert (values["lvis/bbox_APr"], values["lvis/bbox_APc"]) == (pytest.approx(1.0), -1)
    assert values["lvis/bbox_APf"] == pytest.approx(0.5)
    assert values["lvis/acorn_precision"] == pytest.approx(1.0)
    assert values["lvis/baboon_precision"] == pytest.approx(0.5)
    assert "lvis/bbox_AR@300" not in values


def test_masks_and_chosen_numbers(truth: str) -> None:
    metric = LVISMetric(truth, ("bbox", "segm"), classes=CLASSES, category_ids=IDS, metric_items=("AP", "AR@300"))
    values = fill(metric, with_masks=True)
    assert values.keys() == {"lvis/bbox_AP", "lvis/bbox_AR@300", "lvis/segm_AP", "lvis/segm_AR@300"}
    assert values["lvis/segm_AP"] == pytest.approx(0.75)
    assert values["lvis/segm_AR@300"] == pytest.approx(1.0)
    assert metric.curves["segm"].average_precision().tolist() == pytest.approx([1.0, 0.5])


def test_an_image_has_300_detections() -> None:
    scores = np.random.default_rng(0).random(400)
    rows = [{"image_id": 1, "score": float(s)} for s in scores] + [{"image_id": 2, "score": 0.0}]
    kept = best_of_each_image(rows)
    assert len(kept) == 301
    assert min(row["score"] for row in kept[:300]) == np.sort(scores)[100]


def test_nothing_found_is_zero(truth: str) -> None:
    metric = LVISMetric(truth, classes=CLASSES, category_ids=IDS)
    assert metric.compute()["lvis/bbox_AP"] == 0.0


def test_settings_and_files_are_checked(truth: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs ann_file"):
        LVISMetric(classes=CLASSES)
    with pytest.raises(ValueError, match="metric_items has 'APx'"):
        LVISMetric(truth, classes=CLASSES, metric_items=("APx",))
    data = json.loads(Path(truth).read_text())
    del data["images"][0]["neg_category_ids"]
    plain = tmp_path / "coco.json"
    plain.write_text(json.dumps(data))
    with pytest.raises(DataError, match="image 1 of ann_file has no neg_category_ids"):
        fill(LVISMetric(str(plain), classes=CLASSES, category_ids=IDS))
