"""VOCMetric: Pascal VOC mean average precision and recall, with MMDetection's names and matching."""

import logging
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast

import numpy as np

from fastdet.evaluation.metric import CollectingMetric
from fastdet.evaluation.recall import box_iou, proposal_recalls
from fastdet.evaluation.tables import text_table
from fastdet.registry import METRICS
from fastdet.structures import ImageRecord
from fastdet.structures.packed import PackedResult
from fastdet.structures.precision import PrecisionRecall
from fastdet.utils.errors import DataError

EvalMode = Literal["11points", "area"]
_LAST_PIXEL = 1.0  # VOC's boxes hold their last pixel: widths are x2 - x1 + 1
_RECALLS = np.linspace(0.0, 1.0, 101)  # for the curves, as COCO draws them

_log = logging.getLogger("fastdet.evaluation")


class ClassMatches(NamedTuple):
    """The detections of one class by score, descending, those on ignored objects left out. n detections."""

    scores: np.ndarray  # [n] float32
    is_true: np.ndarray  # [n] bool: found an object that nothing better found before
    num_objects: int
    num_detections: int  # with those on ignored objects


@METRICS.register()
class VOCMetric(CollectingMetric):
    """Pascal VOC's mAP or the recall of proposals.

    As in MMDetection: a detection belongs to the object it overlaps most (widths and heights plus 1 pixel, as in
    VOC's kit). The first one with IoU >= threshold is right, later ones on the same object are wrong, those on an
    ignored (difficult) object count nowhere. Classes without objects are left out of the mean. Values keep full
    precision, where MMDetection rounds `AP50` to three digits.

    Args:
        iou_thrs: one IoU threshold or several; `mAP` is the mean over them, `AP50` and kin are each one's.
        metric: "mAP" or "recall".
        proposal_nums: numbers of proposals for "recall".
        eval_mode: "11points" (VOC2007) or "area" (VOC2010 and later).
        prefix: put before the names, with a slash.
        classes: names in label order.
        category_ids: not used; every metric is given them.
        records: gives the dataset's records, the ground truth.

    Raises:
        ValueError: a setting outside the above.

    Source: Everingham et al., "The Pascal Visual Object Classes Challenge: A Retrospective", section 3.
    """

    def __init__(
        self,
        iou_thrs: float | Sequence[float] = 0.5,
        metric: str | Sequence[str] = "mAP",
        *,
        classes: Sequence[str],
        records: Callable[[], Sequence[ImageRecord]],
        proposal_nums: Sequence[int] = (100, 300, 1000),
        eval_mode: str = "11points",
        prefix: str | None = "pascal_voc",
        category_ids: Sequence[int] | None = None,
    ) -> None:
        names = (metric,) if isinstance(metric, str) else tuple(metric)
        if names not in (("mAP",), ("recall",)):
            raise ValueError(f"VOCMetric: metric must be 'mAP' or 'recall', not {metric!r}")
        if eval_mode not in ("11points", "area"):
            raise ValueError(f"VOCMetric: eval_mode must be '11points' or 'area', not {eval_mode!r}")
        self._metric = names[0]
        self._mode = cast(EvalMode, eval_mode)
        self._iou_thresholds = tuple(np.atleast_1d(np.asarray(iou_thrs, dtype=float)).tolist())
        self._proposal_nums = tuple(proposal_nums)
        self._classes = tuple(classes)
        self._records = records
        self._prefix = "pascal_voc" if prefix is None else prefix
        super().__init__(with_masks=False)

    def compute(self) -> dict[str, float]:
        """Evaluates, logs the table and returns the numbers.

        Raises:
            DataError: results of images that are not in the dataset.
        """
        records = list(self._records())
        found = self._in_order(records)
        values = self._mean_ap(records, found) if self._metric == "mAP" else self._recall(records, found)
        return {f"{self._prefix}/{name}" if self._prefix else name: value for name, value in values.items()}

    def _in_order(self, records: Sequence[ImageRecord]) -> list[PackedResult | None]:
        known = {record.image_id for record in records}
        strange = [r.image_id for r in self._store if r.image_id not in known]
        if strange:
            raise DataError(
                f"VOCMetric: {len(strange)} images with results are not in the dataset, for example {strange[0]!r}"
            )
        absent = len(records) - len(self._store)
        if absent:
            _log.warning("%d of %d images have no results and count as empty", absent, len(records))
        return [self._store.get(record.image_id) for record in records]

    def _mean_ap(self, records: Sequence[ImageRecord], found: Sequence[PackedResult | None]) -> dict[str, float]:
        means: list[float] = []
        values: dict[str, float] = {}
        all_matches: list[list[ClassMatches]] = []
        for threshold in self._iou_thresholds:
            matches = match_classes(records, found, len(self._classes), iou_threshold=threshold)
            precisions = [average_precision(m, mode=self._mode) for m in matches]
            counted = [ap for ap, m in zip(precisions, matches, strict=True) if m.num_objects]
            means.append(float(np.mean(counted)) if counted else 0.0)
            values[f"AP{round(threshold * 100):02d}"] = means[-1]
            self._log_table(threshold, matches, precisions, means[-1])
            all_matches.append(matches)
        self._curves = {"bbox": precision_recall(all_matches, self._iou_thresholds)}
        return {"mAP": float(np.mean(means)), **values}

    def _log_table(
        self, threshold: float, matches: Sequence[ClassMatches], precisions: Sequence[float], mean: float
    ) -> None:
        rows = [
            (name, m.num_objects, m.num_detections, f"{m.is_true.sum() / max(m.num_objects, 1):.3f}", f"{ap:.3f}")
            for name, m, ap in zip(self._classes, matches, precisions, strict=True)
        ]
        table = text_table(("class", "gts", "dets", "recall", "ap"), rows, footer=("mAP", "", "", "", f"{mean:.3f}"))
        _log.info("AP at IoU %g, %s\n%s", threshold, self._mode, table)

    def _recall(self, records: Sequence[ImageRecord], found: Sequence[PackedResult | None]) -> dict[str, float]:
        nothing = np.zeros((0, 4), dtype=np.float32)
        recalls = proposal_recalls(
            [record.boxes[~record.ignore] for record in records],
            [nothing if r is None else r.boxes[np.argsort(-r.scores, kind="stable")] for r in found],
            proposal_nums=self._proposal_nums,
            iou_thresholds=self._iou_thresholds,
            extra=_LAST_PIXEL,
        )
        values = {
            f"recall@{number}@{threshold}": float(recalls[row, column])
            for row, number in enumerate(self._proposal_nums)
            for column, threshold in enumerate(self._iou_thresholds)
        }
        if len(self._iou_thresholds) > 1:
            values |= {f"AR@{n}": float(row.mean()) for n, row in zip(self._proposal_nums, recalls, strict=True)}
        return values


def match_classes(
    records: Sequence[ImageRecord], found: Sequence[PackedResult | None], num_classes: int, *, iou_threshold: float
) -> list[ClassMatches]:
    """Decides for every class which detections are right.

    Args:
        records: the images with their objects.
        found: the detections of the same images; None counts as no detection.
        num_classes: labels are in [0, num_classes).
        iou_threshold: the least IoU of a right detection.
    """
    scores: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    is_true: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    num_detections = np.zeros(num_classes, dtype=int)
    num_objects = np.zeros(num_classes, dtype=int)
    for record, result in zip(records, found, strict=True):
        num_objects += np.bincount(record.labels[~record.ignore], minlength=num_classes)
        if result is None:
            continue
        for label in np.unique(result.labels).tolist():
            chosen = np.flatnonzero(result.labels == label)
            chosen = chosen[np.argsort(-result.scores[chosen], kind="stable")]
            truth = record.labels == label
            right, counts = match_image(
                result.boxes[chosen], record.boxes[truth], record.ignore[truth], iou_threshold=iou_threshold
            )
            scores[label].append(result.scores[chosen][counts])
            is_true[label].append(right[counts])
            num_detections[label] += len(chosen)
    return [
        _sorted_matches(scores[label], is_true[label], int(num_objects[label]), int(num_detections[label]))
        for label in range(num_classes)
    ]


def match_image(
    boxes: np.ndarray, truth: np.ndarray, ignore: np.ndarray, *, iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which detections of one class in one image are right, and which count at all.

    Args:
        boxes: detections [n, 4], by score, descending.
        truth: objects [g, 4].
        ignore: bool [g], objects that may be found but need not be.
        iou_threshold: the least IoU of a right detection.

    Returns:
        bool [n], bool [n].
    """
    right = np.zeros(len(boxes), dtype=bool)
    counts = np.ones(len(boxes), dtype=bool)
    if len(boxes) == 0 or len(truth) == 0:
        return right, counts
    # Objects that count stand before the ignored ones: with equal IoU the former is taken, as MMDetection orders them.
    order = np.argsort(ignore, kind="stable")
    iou = box_iou(boxes, truth[order], extra=_LAST_PIXEL)
    best = iou.argmax(axis=1)
    hit = iou.max(axis=1) >= np.float32(iou_threshold)
    counts = ~(hit & ignore[order][best])
    candidates = np.flatnonzero(hit & counts)
    _, first = np.unique(best[candidates], return_index=True)
    right[candidates[first]] = True
    return right, counts


def _sorted_matches(
    scores: Sequence[np.ndarray], is_true: Sequence[np.ndarray], num_objects: int, num_detections: int
) -> ClassMatches:
    if not scores:
        return ClassMatches(np.zeros(0, np.float32), np.zeros(0, bool), num_objects, num_detections)
    joined = np.concatenate(scores)
    order = np.argsort(-joined, kind="stable")
    return ClassMatches(joined[order], np.concatenate(is_true)[order], num_objects, num_detections)


def _precision_and_recall(matches: ClassMatches) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall [n] after each detection; the recall is 0 without objects."""
    true = np.cumsum(matches.is_true)
    return true / np.arange(1, len(true) + 1), true / max(matches.num_objects, 1)


def average_precision(matches: ClassMatches, *, mode: EvalMode) -> float:
    """VOC's AP of one class: the mean of 11 precisions, or the area under the curve without its dents."""
    precision, recall = _precision_and_recall(matches)
    # The best precision at this recall or a higher one.
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if mode == "area":
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope[:-1]))
    points = np.arange(0, 1 + 1e-3, 0.1)  # 0.30000000000000004 and kin as in MMDetection, which decides at exactly 3/10
    return float(envelope[np.searchsorted(recall, points, side="left")].mean())


def precision_recall(matches: Sequence[Sequence[ClassMatches]], iou_thresholds: Sequence[float]) -> PrecisionRecall:
    """The curves at 101 recalls of matches [T][K]."""
    shape = (len(iou_thresholds), len(_RECALLS), len(matches[0]), 1, 1)
    precision, scores = np.full(shape, -1.0), np.full(shape, -1.0)
    reached = np.full((shape[0], *shape[2:]), -1.0)
    for t, row in enumerate(matches):
        for k, m in enumerate(row):
            if m.num_objects == 0:
                continue
            exact, recall = _precision_and_recall(m)
            index = np.searchsorted(recall, _RECALLS, side="left")
            precision[t, :, k, 0, 0] = np.append(np.maximum.accumulate(exact[::-1])[::-1], 0.0)[index]
            scores[t, :, k, 0, 0] = np.append(m.scores, 0.0)[index]
            reached[t, k, 0, 0] = recall[-1] if len(recall) else 0.0
    return PrecisionRecall(
        iou_thresholds=np.array(iou_thresholds),
        recall_thresholds=_RECALLS,
        area_names=("all",),
        max_detections=(int(max(m.num_detections for m in matches[0])),) if matches[0] else (0,),
        precision=precision,
        recall=reached,
        scores=scores,
    )
