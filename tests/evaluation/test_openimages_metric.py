"""Open Images' protocol, with numbers worked out by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from fastdet.evaluation import OpenImagesMetric
from fastdet.evaluation.openimages import match_groups
from fastdet.structures import ImageMeta, ImageRecord, Instances

CLASSES = ("dog", "cat", "pet")
RELATIONS = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]], bool)
BOXES = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)


def record(number: int, labels: list[int], group: list[bool], verified: list[int]) -> ImageRecord:
    count = len(labels)
    return ImageRecord(
        number, "", 100, 100, BOXES[:count], np.array(labels, np.int64), np.zeros(count, bool),
        group_of=np.array(group, bool), verified=np.array(verified, np.int64),
    )  # fmt: skip


def computed(records: list[ImageRecord], found: list[tuple[list, list, list]], **options: Any) -> dict[str, float]:
    metric = OpenImagesMetric(classes=CLASSES, records=lambda: records, **{"relations": RELATIONS, **options})
    for number, (boxes, scores, labels) in enumerate(found):
        instances = Instances(
            torch.tensor(boxes).float().reshape(-1, 4), torch.tensor(scores), torch.tensor(labels), None
        )
        metric.update([instances], [ImageMeta(number, "", (100, 100), (100, 100), (1.0, 1.0))])
    return metric.compute()


def test_groups_are_found_once_by_what_lies_in_them() -> None:
    boxes = np.array([[20, 20, 25, 25], [0, 0, 10, 10], [25, 25, 30, 30], [50, 50, 60, 60]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    found = match_groups(boxes, scores, BOXES, np.array([False, True]), iou_threshold=0.5, ioa_threshold=0.5)
    # The second finds the single object; the first and third lie in the group and are one; the fourth is wrong.
    np.testing.assert_allclose(found[0], [0.8, 0.6, 0.9])
    assert found[1].tolist() == [True, False, True]
    alone = match_groups(boxes, scores, BOXES, np.array([False, False]), iou_threshold=0.5, ioa_threshold=0.5)
    assert alone[1].tolist() == [False, True, False, False]


def test_classes_count_for_those_above_and_unverified_ones_are_left_out() -> None:
    # Image 0 has a dog, and no cat was looked for; image 1 has a cat, and dogs were verified to be absent.
    records = [record(0, [0], [False], []), record(1, [1], [False], [0])]
    box, beside = [0, 0, 10, 10], [40, 40, 50, 50]
    found = [([box, beside], [0.9, 0.95], [0, 1]), ([box, beside], [0.8, 0.85], [1, 0])]
    values = computed(records, found)
    # Dogs: 0.9 right, 0.85 wrong: AP 1. Cats: 0.95 is not evaluated, 0.8 right: AP 1.
    # Pets: 0.95 (the cat) wrong, 0.9 right, 0.85 wrong, 0.8 right: (1 / 2 + 2 / 4) / 2.
    assert values["openimages/mAP"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert values["openimages/AP50"] == values["openimages/mAP"]
    # Without the hierarchy there are dogs and cats alone.
    assert computed(records, found, get_supercategory=False)["openimages/mAP"] == pytest.approx(1.0)
    # With everything counted the wrong cat comes first: AP 1 / 2.
    everything = computed(records, found, get_supercategory=False, filter_labels=False)
    assert everything["openimages/mAP"] == pytest.approx(0.75)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="one of ioa_thrs for each of iou_thrs"):
        computed([], [], iou_thrs=(0.5, 0.7))
    with pytest.raises(ValueError, match="needs an OpenImagesDataset with its hierarchy"):
        computed([], [], relations=None)
