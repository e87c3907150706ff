"""CocoMetric against pycocotools used as its authors show, and against numbers worked out by hand."""

import contextlib
import importlib.util
import io
import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fastdet.evaluation import CocoMetric, Metric
from fastdet.evaluation.coco_eval import coco_stats, evaluate_detections, stat_names
from fastdet.evaluation.coco_truth import read_truth
from fastdet.evaluation.result_files import box_rows, mask_rows
from fastdet.registry import METRICS, Spec, build
from fastdet.structures import ImageMeta, ImageRecord, Instances
from fastdet.utils.errors import DataError
from tests.evaluation.samples import classes_of, perturbed

BACKENDS = [
    "pycocotools",
    pytest.param(
        "hotcoco",
        marks=pytest.mark.skipif(importlib.util.find_spec("hotcoco") is None, reason="hotcoco is not installed"),
    ),
]


def official(
    ann_file: Path, rows: list[dict], kind: str, caps: tuple[int, ...], *, use_categories: bool = True
) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ann_file))
        evaluator = COCOeval(truth, truth.loadRes(rows), kind)
        evaluator.params.maxDets = list(caps)
        evaluator.params.useCats = int(use_categories)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def metric_of(coco_file: Path, data: dict, **options: object) -> CocoMetric:
    classes, category_ids = classes_of(data)
    return CocoMetric(str(coco_file), classes=classes, category_ids=category_ids, **options)


def small_metric(
    records: list[ImageRecord], classes: tuple[str, ...] = ("cat", "dog"), **options: object
) -> CocoMetric:
    return CocoMetric(classes=classes, records=lambda: records, **options)


def record(image_id: int | str, boxes: list, labels: list, ignore: list | None = None) -> ImageRecord:
    return ImageRecord(
        image_id,
        f"{image_id}.jpg",
        200,
        200,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.array(ignore if ignore is not None else [False] * len(boxes), dtype=bool),
    )


def meta(image_id: int | str) -> ImageMeta:
    return ImageMeta(image_id, f"{image_id}.jpg", (200, 200), (200, 200), (1.0, 1.0))


def instances(boxes: list, scores: list, labels: list) -> Instances:
    return Instances(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("caps", [(1, 10, 100), (100, 300, 1000)])
@pytest.mark.parametrize("round_scores", [False, True], ids=["distinct scores", "ties"])
def test_box_numbers_equal_pycocotools_bit_for_bit(
    coco_file: Path, coco_data: dict, backend: str, caps: tuple[int, ...], round_scores: bool
) -> None:
    results, metas = perturbed(coco_data, seed=1, round_scores=round_scores)
    metric = metric_of(coco_file, coco_data, proposal_nums=caps, metric_items=stat_names(caps), backend=backend)
    metric.update(results, metas)
    values = metric.compute()
    expected = official(coco_file, box_rows(metric.results, classes_of(coco_data)[1]), "bbox", caps)
    assert [values[f"coco/bbox_{name}"] for name in stat_names(caps)] == expected.stats.tolist()
    assert 0.1 < values["coco/bbox_mAP"] < 0.5
    np.testing.assert_array_equal(metric.curves["bbox"].precision, expected.eval["precision"])
    np.testing.assert_array_equal(metric.curves["bbox"].recall, expected.eval["recall"])
    np.testing.assert_array_equal(metric.curves["bbox"].scores, expected.eval["scores"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_than_a_hundred_detections_an_image_count_as_in_pycocotools(
    coco_file: Path, coco_data: dict, backend: str
) -> None:
    results, metas = perturbed(coco_data, seed=2, copies=30, images=4)
    assert max(map(len, results)) > 1000
    caps = (100, 300, 1000)
    metric = metric_of(coco_file, coco_data, metric_items=stat_names(caps), backend=backend)
    metric.update(results, metas)
    values = metric.compute()
    rows = box_rows(metric.results, classes_of(coco_data)[1])
    expected = official(coco_file, rows, "bbox", caps)
    assert [values[f"coco/bbox_{name}"] for name in stat_names(caps)] == expected.stats.tolist()
    # The first number counts 100 detections an image and class, the second 1000.
    assert values["coco/bbox_AR@100"] < values["coco/bbox_AR@1000"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_mask_numbers_equal_pycocotools_with_the_masks_areas(coco_file: Path, coco_data: dict, backend: str) -> None:
    results, metas = perturbed(coco_data, seed=3, copies=1, with_masks=True)
    caps = (1, 10, 100)
    metric = metric_of(
        coco_file,
        coco_data,
        metric=["bbox", "segm"],
        proposal_nums=caps,
        metric_items=stat_names(caps),
        backend=backend,
    )
    metric.update(results, metas)
    values = metric.compute()
    rows = mask_rows(metric.results, classes_of(coco_data)[1])
    without_boxes = [{k: v for k, v in row.items() if k != "bbox"} for row in rows]
    expected = official(coco_file, without_boxes, "segm", caps)
    assert [values[f"coco/segm_{name}"] for name in stat_names(caps)] == expected.stats.tolist()
    assert set(metric.curves) == {"bbox", "segm"}
    by_box_area = official(coco_file, rows, "segm", caps)
    assert by_box_area.stats[3] != expected.stats[3]


@pytest.mark.parametrize("backend", BACKENDS)
def test_proposals_are_evaluated_without_classes(coco_file: Path, coco_data: dict, backend: str) -> None:
    results, metas = perturbed(coco_data, seed=4, copies=8, images=5)
    plain = [Instances(r.bboxes, r.scores, torch.zeros_like(r.labels)) for r in results]
    metric = metric_of(coco_file, coco_data, metric="proposal", backend=backend)
    metric.update(plain, metas)
    values = metric.compute()
    rows = box_rows(metric.results, classes_of(coco_data)[1])
    expected = official(coco_file, rows, "bbox", (100, 300, 1000), use_categories=False)
    names = ["AR@100", "AR@300", "AR@1000", "AR_s@1000", "AR_m@1000", "AR_l@1000"]
    assert values == dict(zip([f"coco/{name}" for name in names], expected.stats[6:].tolist(), strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_annotation_with_id_0_counts_as_the_evaluators_count_it(
    tmp_path: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = {
        "images": [{"id": 7, "height": 99, "width": 99}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": 0, "image_id": 7, "category_id": 3, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0}],
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps(data))
    metric = CocoMetric(str(file), classes=("cat",), backend=backend)
    metric.update([instances([[0, 0, 50, 50]], [0.9], [0])], [meta(7)])
    with caplog.at_level(logging.WARNING):
        assert metric.compute()["coco/bbox_mAP"] == 0.0
    assert "id 0" in caplog.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_perfect_boxes_give_one_and_missing_sizes_minus_one(backend: str) -> None:
    records = [record("b", [[10, 10, 30, 30]], [0]), record("a", [[0, 0, 150, 150]], [1])]
    metric = small_metric(records, backend=backend)
    metric.update(
        [instances([[10, 10, 30, 30]], [0.9], [0]), instances([[0, 0, 150, 150]], [0.8], [1])], [meta("b"), meta("a")]
    )
    values = metric.compute()
    assert values == pytest.approx(
        {
            "coco/bbox_mAP": 1.0,
            "coco/bbox_mAP_50": 1.0,
            "coco/bbox_mAP_75": 1.0,
            "coco/bbox_mAP_s": 1.0,
            "coco/bbox_mAP_m": -1.0,
            "coco/bbox_mAP_l": 1.0,
        }
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_the_objects_and_a_false_positive_between_worked_out_by_hand(backend: str) -> None:
    # Two objects; scores 0.9 right, 0.8 wrong, 0.7 right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    # Interpolated: 1 at the 51 recalls up to 0.5, 2/3 at the 50 above it.
    records = [record(1, [[0, 0, 50, 50], [100, 100, 150, 150]], [0, 0])]
    metric = small_metric(records, metric_items=["mAP_50"], backend=backend)
    metric.update(
        [instances([[0, 0, 50, 50], [60, 0, 90, 50], [100, 100, 150, 150]], [0.9, 0.8, 0.7], [0, 0, 0])], [meta(1)]
    )
    assert metric.compute()["coco/bbox_mAP_50"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_detections_on_a_crowd_count_nowhere(backend: str) -> None:
    records = [record(1, [[0, 0, 50, 50], [100, 100, 190, 190]], [0, 0], [False, True])]
    metric = small_metric(records, metric_items=["mAP"], backend=backend)
    found = [[100, 100, 120, 120], [130, 130, 150, 150], [0, 0, 50, 50]]
    metric.update([instances(found, [0.9, 0.8, 0.7], [0, 0, 0])], [meta(1)])
    assert metric.compute() == pytest.approx({"coco/bbox_mAP": 1.0})


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_detections_give_zero_and_no_ground_truth_minus_one(backend: str) -> None:
    empty = instances([], [], [])
    metric = small_metric([record(1, [[0, 0, 50, 50]], [0])], metric_items=["mAP"], backend=backend)
    metric.update([empty], [meta(1)])
    assert metric.compute() == {"coco/bbox_mAP": 0.0}
    metric = small_metric([record(1, [], [])], metric_items=["mAP"], backend=backend)
    metric.update([instances([[0, 0, 50, 50]], [0.9], [0])], [meta(1)])
    assert metric.compute() == {"coco/bbox_mAP": -1.0}
    metric = small_metric([record(1, [], [])], metric_items=["mAP"], backend=backend)
    metric.update([empty], [meta(1)])
    assert metric.compute() == {"coco/bbox_mAP": -1.0}


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_mask_results_are_evaluated(backend: str) -> None:
    square = [[np.array([0.0, 0, 50, 0, 50, 50, 0, 50])]]
    base = record(1, [[0, 0, 50, 50]], [0])
    records = [ImageRecord(1, "1.jpg", 200, 200, base.boxes, base.labels, base.ignore, tuple(square))]
    metric = small_metric(records, metric="segm", metric_items=["mAP"], backend=backend)
    metric.update(
        [
            Instances(
                *[getattr(instances([], [], []), n) for n in ("bboxes", "scores", "labels")],
                torch.zeros(0, 200, 200, dtype=torch.bool),
            )
        ],
        [meta(1)],
    )
    assert metric.compute() == {"coco/segm_mAP": 0.0}


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_of_records_are_the_ground_truth(backend: str) -> None:
    polygon = [np.array([10.0, 10, 60, 10, 60, 60, 10, 60])]
    bitmap = np.zeros((200, 200), dtype=bool)
    bitmap[100:150, 100:150] = True
    rle = {"size": [200, 200], "counts": [100 * 200 + 100, 50, *([150, 50] * 49), 200 * 200 - 149 * 200 - 150]}
    base = record(1, [[10, 10, 60, 60], [100, 100, 150, 150]], [0, 0])
    records = [ImageRecord(1, "1.jpg", 200, 200, base.boxes, base.labels, base.ignore, (polygon, rle))]
    masks = torch.zeros(2, 200, 200, dtype=torch.bool)
    masks[0, 10:60, 10:60] = True
    masks[1, 100:150, 100:150] = True
    metric = small_metric(records, metric=("bbox", "segm"), metric_items=["mAP"], backend=backend)
    found = Instances(torch.from_numpy(base.boxes), torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), masks)
    metric.update([found], [meta(1)])
    assert metric.compute() == pytest.approx({"coco/bbox_mAP": 1.0, "coco/segm_mAP": 1.0})


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_follow_the_order_of_classes_not_of_category_ids(tmp_path: Path, backend: str) -> None:
    data = {
        "images": [{"id": 1, "height": 200, "width": 200}],
        "categories": [{"id": 2, "name": "cat"}, {"id": 9, "name": "dog"}, {"id": 5, "name": "cow"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 9, "bbox": [0, 0, 50, 50], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 5, "bbox": [100, 100, 50, 50], "iscrowd": 0},
        ],
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps(data))
    metric = CocoMetric(str(file), classes=("dog", "cat"), classwise=True, metric_items=["mAP"], backend=backend)
    metric.update([instances([[0, 0, 50, 50], [100, 100, 150, 150]], [0.9, 0.8], [0, 1])], [meta(1)])
    assert metric.compute() == pytest.approx({"coco/dog_precision": 1.0, "coco/bbox_mAP": 1.0})
    assert metric.curves["bbox"].average_precision()[0] == pytest.approx(1.0)
    assert math.isnan(metric.curves["bbox"].average_precision()[1])


def test_single_thresholds_and_caps_without_100_are_evaluated(coco_file: Path, coco_data: dict) -> None:
    results, metas = perturbed(coco_data, seed=5)
    metric = metric_of(coco_file, coco_data, iou_thrs=0.5, proposal_nums=(10, 20, 30), metric_items=["mAP", "mAP_50"])
    metric.update(results, metas)
    values = metric.compute()
    assert values["coco/bbox_mAP"] == values["coco/bbox_mAP_50"] > 0
    # pycocotools has no number for AP at other caps than 100.
    arrays = evaluate_detections(
        read_truth(coco_file, *classes_of(coco_data)),
        box_rows(metric.results, classes_of(coco_data)[1]),
        "bbox",
        iou_thresholds=np.array([0.5]),
        max_detections=(10, 20, 30),
        backend="pycocotools",
    )
    assert coco_stats(arrays)[0] == -1


def test_each_class_has_its_number_and_a_row_in_the_log(
    coco_file: Path, coco_data: dict, caplog: pytest.LogCaptureFixture
) -> None:
    results, metas = perturbed(coco_data, seed=6)
    metric = metric_of(coco_file, coco_data, classwise=True)
    metric.update(results, metas)
    with caplog.at_level(logging.INFO):
        values = metric.compute()
    classes, _ = classes_of(coco_data)
    per_class = [values[f"coco/{name}_precision"] for name in classes if f"coco/{name}_precision" in values]
    assert 10 < len(per_class) < 80  # classes without objects have no number
    assert np.mean(per_class) == pytest.approx(values["coco/bbox_mAP"], abs=1e-12)
    assert f"| person         | {values['coco/person_precision']:.3f} |" in caplog.text
    assert "| toaster        |     - |" in caplog.text or "coco/toaster_precision" in values
    assert f"bbox_mAP_copypaste: {values['coco/bbox_mAP']:.3f} " in caplog.text


def test_two_kinds_name_the_classes_apart() -> None:
    square = [np.array([0.0, 0, 50, 0, 50, 50, 0, 50])]
    base = record(1, [[0, 0, 50, 50]], [0])
    records = [ImageRecord(1, "1.jpg", 200, 200, base.boxes, base.labels, base.ignore, (square,))]
    metric = small_metric(records, metric=["bbox", "segm"], classwise=True, metric_items=["mAP"])
    mask = torch.zeros(1, 200, 200, dtype=torch.bool)
    mask[:, :50, :25] = True
    metric.update([Instances(torch.from_numpy(base.boxes), torch.tensor([0.9]), torch.tensor([0]), mask)], [meta(1)])
    assert metric.compute() == pytest.approx(
        {
            "coco/bbox_mAP": 1.0,
            "coco/bbox_cat_precision": 1.0,
            "coco/segm_mAP": 0.1,
            "coco/segm_cat_precision": 0.1,
            "coco/cat_precision": 0.1,
        }
    )


def test_merged_ranks_equal_one_process_and_repeated_images_count_once(coco_file: Path, coco_data: dict) -> None:
    results, metas = perturbed(coco_data, seed=7, images=9)
    whole = metric_of(coco_file, coco_data)
    whole.update(results, metas)
    # Ranks take every second image; the sampler repeats the first one to fill the last batch.
    ranks = [metric_of(coco_file, coco_data) for _ in range(2)]
    order = [*range(9), 0]
    for rank, metric in enumerate(ranks):
        for index in order[rank::2]:
            metric.update([results[index]], [metas[index]])
    ranks[0].merge([metric.state() for metric in ranks])
    assert len(ranks[0].results) == 9
    assert ranks[0].compute() == whole.compute()


def test_reset_forgets_the_results(coco_file: Path, coco_data: dict) -> None:
    results, metas = perturbed(coco_data, seed=8, images=3)
    metric = metric_of(coco_file, coco_data)
    metric.update(results, metas)
    metric.reset()
    assert metric.results == []
    assert metric.compute()["coco/bbox_mAP"] == 0.0


def test_images_without_results_count_as_empty_and_are_warned_of(
    coco_file: Path, coco_data: dict, caplog: pytest.LogCaptureFixture
) -> None:
    results, metas = perturbed(coco_data, seed=9, images=3)
    metric = metric_of(coco_file, coco_data)
    metric.update(results, metas)
    with caplog.at_level(logging.WARNING):
        metric.compute()
    assert "13 of 16 images have no results" in caplog.text


def test_the_result_files_are_those_of_coco_and_score_the_same(
    tmp_path: Path, coco_file: Path, coco_data: dict
) -> None:
    results, metas = perturbed(coco_data, seed=10, copies=1, with_masks=True, images=20)
    prefix = tmp_path / "out" / "results"
    metric = metric_of(
        coco_file, coco_data, metric=["bbox", "segm"], outfile_prefix=str(prefix), proposal_nums=(1, 10, 100)
    )
    metric.update(results[::-1], metas[::-1])
    values = metric.compute()
    rows = json.loads((tmp_path / "out" / "results.bbox.json").read_text())
    assert set(rows[0]) == {"image_id", "bbox", "score", "category_id"}
    assert rows[0]["image_id"] == next(m.image_id for m, r in zip(metas, results, strict=True) if len(r))
    assert values["coco/bbox_mAP"] == official(coco_file, rows, "bbox", (1, 10, 100)).stats[0]
    masks = json.loads((tmp_path / "out" / "results.segm.json").read_text())
    assert set(masks[0]) == {"image_id", "bbox", "score", "category_id", "segmentation"}
    assert isinstance(masks[0]["segmentation"]["counts"], str)
    assert values["coco/segm_mAP"] == official(coco_file, masks, "segm", (1, 10, 100)).stats[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.bbox.json", "results.segm.json"]


def test_format_only_writes_files_and_no_numbers(tmp_path: Path) -> None:
    metric = small_metric(
        [record(1, [], [])], metric="proposal_fast", format_only=True, outfile_prefix=str(tmp_path / "r")
    )
    metric.update([instances([[1, 2, 4, 8]], [0.5], [1])], [meta(1)])
    assert metric.compute() == {}
    rows = json.loads((tmp_path / "r.proposal.json").read_text())
    assert rows == [{"image_id": 1, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5, "category_id": 1}]


def test_fast_proposal_recall_worked_out_by_hand() -> None:
    # Two objects. The best proposal covers the first one exactly, the second one has IoU 0.5 with the second.
    records = [record(1, [[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 99, 99]], [0, 1, 0], [False, False, True])]
    metric = small_metric(records, metric="proposal_fast", proposal_nums=(1, 2), iou_thrs=[0.5, 0.6])
    metric.update([instances([[50, 50, 60, 55], [0, 0, 10, 10]], [0.8, 0.9], [0, 0])], [meta(1)])
    assert metric.compute() == {"coco/AR@1": 0.5, "coco/AR@2": 0.75}


def test_it_is_built_from_a_spec_and_fits_the_protocol() -> None:
    spec = Spec.of("CocoMetric", metric=["bbox"], proposal_nums=[1, 10, 100], prefix="mine")
    metric = build(
        spec,
        (METRICS,),
        role="metric",
        classes=("cat",),
        category_ids=(4,),
        records=lambda: [record(1, [[0, 0, 9, 9]], [0])],
    )
    assert isinstance(metric, Metric)
    metric.update([instances([[0, 0, 9, 9]], [0.5], [0])], [meta(1)])
    assert metric.compute()["mine/bbox_mAP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "box"}, "metric 'box' is unknown; did you mean 'bbox'"),
        ({"metric": ("proposal", "proposal_fast")}, "both return AR@N"),
        ({"metric": ()}, "metric is empty"),
        ({"metric_items": ["mAP_60"]}, "metric_items has 'mAP_60'; did you mean"),
        ({"proposal_nums": (100,)}, "three numbers"),
        ({"proposal_nums": (100, 100, 300)}, "different numbers"),
        ({"format_only": True}, "needs outfile_prefix"),
        ({"backend": "coco"}, "backend must be"),
    ],
)
def test_wrong_settings_are_refused_with_the_fix(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_metric([], **options)


def test_ground_truth_that_does_not_fit_is_refused(tmp_path: Path, coco_file: Path) -> None:
    with pytest.raises(ValueError, match="ann_file, or the records"):
        CocoMetric(classes=("cat",))
    with pytest.raises(DataError, match="does not exist"):
        CocoMetric(str(tmp_path / "no.json"), classes=("cat",)).compute()
    (tmp_path / "bad.json").write_text("[1")
    with pytest.raises(DataError, match="not JSON"):
        CocoMetric(str(tmp_path / "bad.json"), classes=("cat",)).compute()
    with pytest.raises(DataError, match="no category 'catt'\n  did you mean 'cat'"):
        CocoMetric(str(coco_file), classes=("catt",)).compute()
    with pytest.raises(DataError, match=r"no categories with the ids \[99\]"):
        CocoMetric(str(coco_file), classes=("cat",), category_ids=(99,)).compute()
    metric = CocoMetric(str(coco_file), classes=("cat",))
    metric.update([instances([], [], [])], [meta("x")])
    with pytest.raises(DataError, match=r"not in .*image_id 'x'"):
        metric.compute()
    metric = small_metric([record(1, [[0, 0, 9, 9]], [0])], metric="segm")
    metric.update([instances([[0, 0, 9, 9]], [0.5], [0])], [meta(1)])
    with pytest.raises(DataError, match="the detector gives none"):
        metric.compute()
    metric = small_metric([record(1, [[0, 0, 9, 9]], [0])], metric="segm")
    with pytest.raises(DataError, match="with_mask=True"):
        metric.compute()


def test_a_wrong_number_of_results_is_refused() -> None:
    with pytest.raises(ValueError, match="1 results for 0 images"):
        small_metric([]).update([instances([], [], [])], [])
