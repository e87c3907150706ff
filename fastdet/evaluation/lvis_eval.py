"""LVIS's evaluation: COCO's matching over classes that are checked in some of the images only.

Source: Gupta et al., LVIS (CVPR 2019), section 2 (federated dataset); the official protocol of lvis-api: of each image
the 300 best detections count, those of classes that were not looked for in the image count nowhere, and unmatched ones
of classes that were not annotated exhaustively are ignored. There are no crowds.
Letters: T IoU thresholds, R recall thresholds, K classes, A area ranges.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fastdet.evaluation.coco_truth import CocoTruth
from fastdet.structures.precision import PrecisionRecall
from fastdet.utils.errors import DataError

MAX_DETECTIONS = 300
FREQUENCIES = ("r", "c", "f")
"""Rare, common and frequent classes: in at most 10, at most 100 and more training images."""
ITEMS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf", "AR@300", "ARs@300", "ARm@300", "ARl@300",
)  # fmt: skip


class _Curve(NamedTuple):
    precision: np.ndarray  # [T, R]
    recall: np.ndarray  # [T]
    scores: np.ndarray  # [T, R]


def evaluate_lvis(
    truth: CocoTruth,
    detections: Sequence[Mapping[str, Any]],
    iou_type: Literal["bbox", "segm"],
    *,
    iou_thresholds: np.ndarray,
) -> PrecisionRecall:
    """Matches detections to the ground truth and accumulates precision and recall, classes in label order.

    Args:
        truth: of an LVIS file: images have neg_category_ids and not_exhaustive_category_ids.
        detections: rows of a COCO result file, see `evaluate_detections`.

    Raises:
        DataError: images without these lists.
    """
    evaluator, not_exhaustive = _prepared(truth, detections, iou_type)
    evaluator.params.iouThrs = iou_thresholds
    areas = evaluator.params.areaRng
    recalls = np.asarray(evaluator.params.recThrs)
    shape = len(iou_thresholds), len(recalls), len(truth.category_ids), len(areas), 1
    precision, scores = np.full(shape, -1.0), np.full(shape, -1.0)
    reached = np.full((shape[0], *shape[2:]), -1.0)
    images = defaultdict(list)
    order = {image_id: number for number, image_id in enumerate(sorted(truth.image_ids, key=_by_kind))}
    for image_id, category in sorted({*evaluator._gts, *evaluator._dts}, key=lambda key: order[key[0]]):
        evaluator.ious[image_id, category] = evaluator.computeIoU(image_id, category)
        images[category].append(image_id)
    for k, category in enumerate(truth.category_ids):
        for a, area in enumerate(areas):
            found = []
            for image_id in images[category]:
                result = evaluator.evaluateImg(image_id, category, area, MAX_DETECTIONS)
                if result is not None:
                    if category in not_exhaustive[image_id]:
                        result["dtIgnore"] = np.logical_or(result["dtIgnore"], result["dtMatches"] == 0)
                    found.append(result)
            curve = _curve(found, recalls)
            if curve is not None:
                precision[:, :, k, a, 0], reached[:, k, a, 0], scores[:, :, k, a, 0] = curve
    return PrecisionRecall(
        iou_thresholds=np.asarray(iou_thresholds, float), recall_thresholds=recalls,
        area_names=tuple(evaluator.params.areaRngLbl), max_detections=(MAX_DETECTIONS,),
        precision=precision, recall=reached, scores=scores,
    )  # fmt: skip


def _prepared(
    truth: CocoTruth, detections: Sequence[Mapping[str, Any]], iou_type: str
) -> tuple[Any, dict[Any, set[int]]]:
    """COCO's evaluator with the detections that count, and each image's classes that are not annotated exhaustively."""
    annotations = [{**annotation, "iscrowd": 0} for annotation in truth.data["annotations"]]
    present: dict[Any, set[int]] = defaultdict(set)
    for annotation in annotations:
        present[annotation["image_id"]].add(annotation["category_id"])
    not_exhaustive: dict[Any, set[int]] = {}
    for image in truth.data["images"]:
        if "neg_category_ids" not in image or "not_exhaustive_category_ids" not in image:
            raise DataError(
                f"LVISMetric: image {image['id']} of ann_file has no neg_category_ids or no "
                "not_exhaustive_category_ids: not an LVIS file; use CocoMetric"
            )
        present[image["id"]] |= set(image["neg_category_ids"])
        not_exhaustive[image["id"]] = set(image["not_exhaustive_category_ids"])
    rows = [dict(row) for row in best_of_each_image(detections) if row["category_id"] in present[row["image_id"]]]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        ground_truth = COCO()
        ground_truth.dataset = {**truth.data, "annotations": annotations}
        ground_truth.createIndex()
        detected = COCO()
        detected.dataset = {**truth.data, "annotations": []}
        detected.createIndex()
        if rows:
            detected = ground_truth.loadRes(rows)
        evaluator = COCOeval(ground_truth, detected, iou_type)
        evaluator.params.catIds = list(truth.category_ids)
        evaluator.params.imgIds = list(truth.image_ids)
        evaluator.params.maxDets = [MAX_DETECTIONS]
        evaluator._prepare()
        evaluator.ious = {}
    return evaluator, not_exhaustive


def _by_kind(image_id: int | str) -> tuple[bool, int | str]:
    """Numbers before names: equal scores count in the images' order, as the official evaluator has it."""
    return isinstance(image_id, str), image_id


def best_of_each_image(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of each image with the highest scores, at most 300; of equal ones the first."""
    by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_image[row["image_id"]].append(row)
    return [
        row
        for part in by_image.values()
        for row in sorted(part, key=lambda row: row["score"], reverse=True)[:MAX_DETECTIONS]
    ]


def _curve(found: Sequence[Mapping[str, Any]], recalls: np.ndarray) -> _Curve | None:
    """Precision at the recalls of one class, from COCO's records of its images; None without ground truth."""
    num_objects = sum(int(np.count_nonzero(result["gtIgnore"] == 0)) for result in found)
    if num_objects == 0:
        return None
    scores = np.concatenate([result["dtScores"] for result in found])
    order = np.argsort(-scores, kind="mergesort")
    matched = np.concatenate([result["dtMatches"] for result in found], axis=1)[:, order] != 0
    counts = np.concatenate([result["dtIgnore"] for result in found], axis=1)[:, order] == 0
    true, false = np.cumsum(matched & counts, axis=1), np.cumsum(~matched & counts, axis=1)
    precision = np.zeros((len(true), len(recalls)))
    at_score = np.zeros((len(true), len(recalls)))
    reached = np.zeros(len(true))
    for t, (tp, fp) in enumerate(zip(true.astype(float), false.astype(float), strict=True)):
        if len(tp) == 0:
            continue
        recall = tp / num_objects
        envelope = np.maximum.accumulate((tp / (tp + fp + np.spacing(1)))[::-1])[::-1]
        place = np.searchsorted(recall, recalls, side="left")
        inside = place < len(recall)
        precision[t, inside], at_score[t, inside] = envelope[place[inside]], scores[order][place[inside]]
        reached[t] = recall[-1]
    return _Curve(precision, reached, at_score)


def lvis_stats(arrays: PrecisionRecall, frequencies: Sequence[str]) -> dict[str, float]:
    """LVIS's 13 numbers by their names in `ITEMS`; -1 where nothing was evaluated.

    Args:
        arrays: of `evaluate_lvis`.
        frequencies: "r", "c" or "f" of each class.
    """
    groups = {name: np.array([f == name for f in frequencies], bool) for name in FREQUENCIES}

    def area(name: str) -> int:
        return arrays.area_names.index(name)

    def at(threshold: float) -> np.ndarray:
        return np.isclose(arrays.iou_thresholds, threshold)

    whole, sizes = arrays.precision[..., area("all"), 0], ("small", "medium", "large")
    values = [whole, whole[at(0.5)], whole[at(0.75)]]
    values += [arrays.precision[..., area(name), 0] for name in sizes]
    values += [whole[:, :, groups[name]] for name in FREQUENCIES]
    values += [arrays.recall[:, :, area(name), 0] for name in ("all", *sizes)]
    means = [float(v[v > -1].mean()) if (v > -1).any() else -1.0 for v in values]
    return dict(zip(ITEMS, means, strict=True))
