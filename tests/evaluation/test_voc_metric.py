"""VOCMetric against numbers worked out by hand."""

import logging
import math

import numpy as np
import pytest
import torch

from fastdet.evaluation import Metric, VOCMetric
from fastdet.evaluation.voc import ClassMatches, average_precision, match_image
from fastdet.registry import METRICS, Spec, build
from fastdet.structures import ImageMeta, ImageRecord, Instances
from fastdet.utils.errors import DataError


def record(image_id: str, boxes: list, labels: list, ignore: list | None = None) -> ImageRecord:
    return ImageRecord(
        image_id,
        f"{image_id}.jpg",
        100,
        100,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.array([False] * len(boxes) if ignore is None else ignore, dtype=bool),
    )


def meta(image_id: str) -> ImageMeta:
    return ImageMeta(image_id, f"{image_id}.jpg", (100, 100), (100, 100), (1.0, 1.0))


def instances(boxes: list, scores: list, labels: list) -> Instances:
    return Instances(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
    )


def metric_of(records: list[ImageRecord], classes: tuple[str, ...] = ("cat", "dog"), **options: object) -> VOCMetric:
    return VOCMetric(classes=classes, records=lambda: records, **options)


TWO_IMAGES = [
    record("a", [[0, 0, 19, 19], [40, 40, 59, 59]], [0, 0]),
    record("b", [[0, 0, 19, 19]], [0]),
]
# By score: right, wrong (the same object again), right, wrong (no object).
# Precision 1, 1/2, 2/3, 2/4 at recall 1/3, 1/3, 2/3, 2/3.
FOUND = [
    instances([[0, 0, 19, 19], [0, 0, 19, 19], [80, 80, 99, 99]], [0.9, 0.8, 0.2], [0, 0, 0]),
    instances([[0, 0, 19, 19]], [0.7], [0]),
]


def test_the_area_under_the_curve_worked_out_by_hand() -> None:
    metric = metric_of(TWO_IMAGES, eval_mode="area")
    metric.update(FOUND, [meta("a"), meta("b")])
    # 1/3 of the recall at precision 1, 1/3 at 2/3. "dog" has no objects and does not count.
    assert metric.compute() == pytest.approx({"pascal_voc/mAP": 5 / 9, "pascal_voc/AP50": 5 / 9}, abs=1e-12)


def test_the_mean_of_eleven_points_worked_out_by_hand() -> None:
    metric = metric_of(TWO_IMAGES, eval_mode="11points")
    metric.update(FOUND, [meta("a"), meta("b")])
    # Recalls 0, .1, .2, .3 reach precision 1; .4, .5, .6 reach 2/3; the others nothing.
    expected = (4 + 3 * 2 / 3) / 11
    assert metric.compute() == pytest.approx({"pascal_voc/mAP": expected, "pascal_voc/AP50": expected}, abs=1e-12)


def test_a_recall_of_exactly_three_tenths_does_not_reach_the_fourth_point() -> None:
    # numpy's 3 * 0.1 is just above 0.3; MMDetection's points are the same.
    matches = ClassMatches(np.array([0.9, 0.8, 0.7], np.float32), np.array([True, True, True]), 10, 3)
    assert average_precision(matches, mode="11points") == pytest.approx(3 / 11)
    assert average_precision(matches, mode="area") == pytest.approx(0.3)


def test_difficult_objects_are_neither_right_nor_wrong() -> None:
    records = [record("a", [[0, 0, 19, 19], [40, 40, 59, 59]], [0, 0], [True, False])]
    metric = metric_of(records, eval_mode="area")
    metric.update(
        [instances([[0, 0, 19, 19], [0, 0, 19, 19], [40, 40, 59, 59]], [0.9, 0.8, 0.7], [0, 0, 0])], [meta("a")]
    )
    assert metric.compute()["pascal_voc/mAP"] == 1.0


def test_widths_and_heights_hold_the_last_pixel() -> None:
    # 10x10 and 10x5 pixels with the last pixel counted: IoU exactly 1/2. Without it, 9x9 and 9x4: 4/9.
    right, counts = match_image(
        np.array([[0, 0, 9, 4]], np.float32), np.array([[0, 0, 9, 9]], np.float32), np.array([False]), iou_threshold=0.5
    )
    assert right.tolist() == [True]
    assert counts.tolist() == [True]


def test_a_detection_belongs_to_the_object_it_overlaps_most_even_if_that_is_taken() -> None:
    truth = np.array([[0, 0, 9, 9], [2, 0, 11, 9]], np.float32)
    found = np.array([[0, 0, 9, 9], [0, 0, 9, 9]], np.float32)
    right, counts = match_image(found, truth, np.array([False, False]), iou_threshold=0.5)
    # The second could have the second object (IoU 2/3), but VOC's kit does not look further.
    assert right.tolist() == [True, False]
    assert counts.tolist() == [True, True]


def test_several_thresholds_give_each_number_and_their_mean() -> None:
    records = [record("a", [[0, 0, 9, 9]], [0])]
    metric = metric_of(records, iou_thrs=[0.5, 0.75], eval_mode="area")
    metric.update([instances([[0, 0, 9, 5]], [0.9], [0])], [meta("a")])  # IoU 0.6
    assert metric.compute() == {"pascal_voc/mAP": 0.5, "pascal_voc/AP50": 1.0, "pascal_voc/AP75": 0.0}


def test_no_detections_give_zero_and_no_objects_give_zero() -> None:
    metric = metric_of([record("a", [[0, 0, 9, 9]], [0])])
    metric.update([instances([], [], [])], [meta("a")])
    assert metric.compute()["pascal_voc/mAP"] == 0.0
    metric = metric_of([record("a", [], [])])
    metric.update([instances([[0, 0, 9, 9]], [0.5], [1])], [meta("a")])
    assert metric.compute()["pascal_voc/mAP"] == 0.0


def test_recall_of_proposals_worked_out_by_hand() -> None:
    records = [record("a", [[0, 0, 9, 9], [50, 50, 59, 59], [80, 80, 89, 89]], [0, 1, 1], [False, False, True])]
    metric = metric_of(records, metric=["recall"], proposal_nums=(1, 2), iou_thrs=[0.5, 0.7])
    metric.update([instances([[50, 50, 59, 55], [0, 0, 9, 9]], [0.5, 0.9], [0, 0])], [meta("a")])
    assert metric.compute() == {
        "pascal_voc/recall@1@0.5": 0.5,
        "pascal_voc/recall@1@0.7": 0.5,
        "pascal_voc/recall@2@0.5": 1.0,
        "pascal_voc/recall@2@0.7": 0.5,
        "pascal_voc/AR@1": 0.5,
        "pascal_voc/AR@2": 0.75,
    }


def test_merged_ranks_equal_one_process_whatever_the_order() -> None:
    whole = metric_of(TWO_IMAGES)
    whole.update(FOUND, [meta("a"), meta("b")])
    first, second = metric_of(TWO_IMAGES), metric_of(TWO_IMAGES)
    first.update([FOUND[1]], [meta("b")])
    second.update([FOUND[0]], [meta("a")])
    second.update([FOUND[1]], [meta("b")])
    first.merge([first.state(), second.state()])
    assert len(first.results) == 2
    assert first.compute() == whole.compute()


def test_the_log_has_a_row_for_each_class(caplog: pytest.LogCaptureFixture) -> None:
    metric = metric_of(TWO_IMAGES, eval_mode="area")
    metric.update(FOUND, [meta("a"), meta("b")])
    with caplog.at_level(logging.INFO):
        metric.compute()
    assert "| cat   |   3 |    4 |  0.667 | 0.556 |" in caplog.text
    assert "| dog   |   0 |    0 |  0.000 | 0.000 |" in caplog.text


def test_the_curves_hold_precision_at_101_recalls() -> None:
    metric = metric_of(TWO_IMAGES)
    metric.update(FOUND, [meta("a"), meta("b")])
    metric.compute()
    curves = metric.curves["bbox"]
    assert curves.precision.shape == (1, 101, 2, 1, 1)
    assert curves.precision[0, [0, 33, 34, 66, 67], 0, 0, 0].tolist() == [1.0, 1.0, 2 / 3, 2 / 3, 0.0]
    assert curves.scores[0, [0, 34], 0, 0, 0].tolist() == pytest.approx([0.9, 0.7])
    assert curves.recall[0, 0, 0, 0] == pytest.approx(2 / 3)
    assert math.isnan(curves.average_precision()[1])


def test_it_is_built_from_a_spec_and_fits_the_protocol() -> None:
    spec = Spec.of("VOCMetric", metric="mAP", eval_mode="area")
    metric = build(
        spec, (METRICS,), role="metric", classes=("cat", "dog"), category_ids=(0, 1), records=lambda: TWO_IMAGES
    )
    assert isinstance(metric, Metric)
    metric.update(FOUND, [meta("a"), meta("b")])
    assert metric.compute()["pascal_voc/AP50"] == pytest.approx(5 / 9)


def test_wrong_settings_and_strange_images_are_refused() -> None:
    with pytest.raises(ValueError, match="metric must be 'mAP' or 'recall'"):
        metric_of([], metric="bbox")
    with pytest.raises(ValueError, match="eval_mode must be '11points' or 'area'"):
        metric_of([], eval_mode="2007")
    metric = metric_of([])
    metric.update([instances([], [], [])], [meta("x")])
    with pytest.raises(DataError, match="not in the dataset, for example 'x'"):
        metric.compute()
