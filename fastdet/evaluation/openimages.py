"""OpenImagesMetric: mean average precision of Open Images, with MMDetection's names."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from fastdet.evaluation.metric import CollectingMetric
from fastdet.evaluation.recall import box_iou
from fastdet.evaluation.voc import ClassMatches, average_precision, precision_recall
from fastdet.registry import METRICS
from fastdet.structures import ImageRecord
from fastdet.utils.errors import DataError

_log = logging.getLogger("fastdet.evaluation")


@METRICS.register()
class OpenImagesMetric(CollectingMetric):
    """Open Images' mAP, in the challenge's form.

    Objects and detections of a class count for the classes above it too. Classes that were not verified in an image
    are not evaluated there. A box around a group is found by the best detection that lies in it; the others in it count
    nowhere.

    Source: https://storage.googleapis.com/openimages/web/evaluation.html; MMDetection's `OpenImagesMetric`.

    Args:
        iou_thrs: one IoU threshold or several; `mAP` is the mean over them.
        ioa_thrs: the least part of a detection that lies in a group, one for each IoU threshold.
        use_group_of: treat groups as said; else as single objects.
        get_supercategory: count for the classes above.
        filter_labels: leave out what was not verified.
        scale_ranges: not supported, only None.
        prefix: put before the names, with a slash.
        classes: names in label order.
        category_ids: not used; every metric is given them.
        records: gives the dataset's records, the ground truth.
        relations: [C, C] bool, which classes (columns) each class is a kind of; None: none but itself.

    Raises:
        ValueError: a setting outside the above.
    """

    def __init__(
        self,
        iou_thrs: float | Sequence[float] = 0.5,
        ioa_thrs: float | Sequence[float] = 0.5,
        *,
        classes: Sequence[str],
        records: Callable[[], Sequence[ImageRecord]],
        use_group_of: bool = True,
        get_supercategory: bool = True,
        filter_labels: bool = True,
        scale_ranges: None = None,
        prefix: str | None = "openimages",
        category_ids: Sequence[int] | None = None,
        relations: np.ndarray | None = None,
    ) -> None:
        self._iou_thresholds = np.atleast_1d(np.asarray(iou_thrs, float)).tolist()
        self._ioa_thresholds = np.atleast_1d(np.asarray(ioa_thrs, float)).tolist()
        if len(self._iou_thresholds) != len(self._ioa_thresholds):
            raise ValueError(f"OpenImagesMetric: one of ioa_thrs for each of iou_thrs: {iou_thrs}, {ioa_thrs}")
        if scale_ranges is not None:
            raise ValueError("OpenImagesMetric: scale_ranges are not supported")
        if relations is None and get_supercategory:
            raise ValueError("OpenImagesMetric: get_supercategory=True needs an OpenImagesDataset with its hierarchy")
        self._classes = tuple(classes)
        self._records = records
        self._use_group_of = use_group_of
        # Row: a class; column: itself and what it counts for too.
        same = np.eye(len(self._classes), dtype=bool)
        self._above = (np.asarray(relations, bool) | same) if relations is not None and get_supercategory else same
        self._filter_labels = filter_labels
        self._prefix = "openimages" if prefix is None else prefix
        super().__init__(with_masks=False)

    def compute(self) -> dict[str, float]:
        """Evaluates and returns the numbers.

        Raises:
            DataError: results of images that are not in the dataset.
        """
        records = list(self._records())
        known = {record.image_id for record in records}
        strange = [result.image_id for result in self._store if result.image_id not in known]
        if strange:
            raise DataError(f"OpenImagesMetric: {len(strange)} images are not in the dataset, such as {strange[0]!r}")
        values: dict[str, float] = {}
        every = []
        for iou, ioa in zip(self._iou_thresholds, self._ioa_thresholds, strict=True):
            matches = self._matches(records, iou, ioa)
            counted = [average_precision(m, mode="area") for m in matches if m.num_objects]
            values[f"AP{int(iou * 100):02d}"] = float(np.mean(counted)) if counted else 0.0
            every.append(matches)
        self._curves = {"bbox": precision_recall(every, self._iou_thresholds)}
        values["mAP"] = float(np.mean(list(values.values())))
        _log.info("%s", "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
        return {f"{self._prefix}/{name}" if self._prefix else name: value for name, value in values.items()}

    def _matches(self, records: Sequence[ImageRecord], iou: float, ioa: float) -> list[ClassMatches]:
        number = len(self._classes)
        scores: list[list[np.ndarray]] = [[] for _ in range(number)]
        right: list[list[np.ndarray]] = [[] for _ in range(number)]
        objects = np.zeros(number, int)
        for record in records:
            truth, above = np.nonzero(self._above[record.labels])
            group = np.zeros(len(record.labels), bool)
            if self._use_group_of and record.group_of is not None:
                group = record.group_of
            objects += np.bincount(above, minlength=number)
            result = self._store.get(record.image_id)
            if result is None:
                continue
            allowed = np.zeros(number, bool)
            allowed[above] = True
            if record.verified is not None:
                allowed[record.verified] = True
            counts_for = self._above[result.labels] & allowed
            if not self._filter_labels:
                counts_for[np.arange(len(result.labels)), result.labels] = True
            for label in np.flatnonzero(counts_for.any(axis=0)):
                chosen = np.flatnonzero(counts_for[:, label])
                chosen = chosen[np.argsort(-result.scores[chosen], kind="stable")]
                mine = truth[above == label]
                found = match_groups(
                    result.boxes[chosen], result.scores[chosen], record.boxes[mine], group[mine],
                    iou_threshold=iou, ioa_threshold=ioa,
                )  # fmt: skip
                scores[label].append(found[0])
                right[label].append(found[1])
        return [_sorted(scores[c], right[c], int(objects[c])) for c in range(number)]


def match_groups(
    boxes: np.ndarray,
    scores: np.ndarray,
    truth: np.ndarray,
    group: np.ndarray,
    *,
    iou_threshold: float,
    ioa_threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Which detections of one class in one image are right; those in a group become one.

    A detection belongs to the single object that it overlaps most; the first one with enough IoU is right. Of the
    others, those that lie in a group by enough of their area are one right detection with the best score.

    Args:
        boxes, scores: [n, 4], [n], by score, descending.
        truth, group: [g, 4], [g] bool.

    Returns:
        Scores and rightness [m], m at most n.
    """
    right = np.zeros(len(boxes), bool)
    singles, groups = truth[~group], truth[group]
    if len(singles) and len(boxes):
        iou = box_iou(boxes, singles)
        candidates = np.flatnonzero(iou.max(axis=1) >= np.float32(iou_threshold))
        _, first = np.unique(iou.argmax(axis=1)[candidates], return_index=True)
        right[candidates[first]] = True
    if not (len(groups) and len(boxes)):
        return scores, right
    inner = np.minimum(boxes[:, None, 2:], groups[None, :, 2:]) - np.maximum(boxes[:, None, :2], groups[None, :, :2])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    part = np.maximum(inner, 0).prod(axis=2) / np.maximum(area, np.float32(1e-6))[:, None]
    inside = ~right & (part.max(axis=1) >= np.float32(ioa_threshold))
    _, first = np.unique(part.argmax(axis=1)[inside], return_index=True)
    best = scores[inside][first]
    return np.concatenate([scores[~inside], best]), np.concatenate([right[~inside], np.ones(len(best), bool)])


def _sorted(scores: Sequence[np.ndarray], right: Sequence[np.ndarray], num_objects: int) -> ClassMatches:
    joined = np.concatenate([np.zeros(0, np.float32), *scores])
    order = np.argsort(-joined, kind="stable")
    return ClassMatches(joined[order], np.concatenate([np.zeros(0, bool), *right])[order], num_objects, len(joined))
