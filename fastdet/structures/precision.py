"""Precision-recall arrays, as metrics compute them and reports draw them.

Letters: T IoU thresholds, R recall thresholds, K classes, A area ranges, M caps on detections per image.
"""

from typing import NamedTuple

import numpy as np


class PrecisionRecall(NamedTuple):
    """Interpolated precision at fixed recalls, in COCO's layout. -1 stands where a class has no ground truth."""

    iou_thresholds: np.ndarray  # [T] float64
    recall_thresholds: np.ndarray  # [R] float64
    area_names: tuple[str, ...]  # A names, the first one is "all"
    max_detections: tuple[int, ...]  # M caps, ascending
    precision: np.ndarray  # [T, R, K, A, M] float64
    recall: np.ndarray  # [T, K, A, M] float64: the largest recall reached
    scores: np.ndarray  # [T, R, K, A, M] float64: the score at which that recall is reached

    def classes(self, order: np.ndarray) -> "PrecisionRecall":
        """The same with the classes selected or reordered by an index array [K]."""
        return self._replace(
            precision=self.precision[:, :, order],
            recall=self.recall[:, order],
            scores=self.scores[:, :, order],
        )

    def average_precision(self, *, iou_threshold: float | None = None, area: str = "all") -> np.ndarray:
        """AP of each class [K] at the largest cap: one IoU threshold, or the mean over all. NaN without ground truth.

        Raises:
            ValueError: an IoU threshold or area range that was not evaluated.
        """
        chosen = self.precision[self._iou_index(iou_threshold)][:, :, :, self._area_index(area), -1]  # [t, R, K]
        if chosen.shape[2] == 0:
            return np.zeros(0)
        valid = chosen > -1
        count = valid.sum(axis=(0, 1))
        total = np.where(valid, chosen, 0.0).sum(axis=(0, 1))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def _iou_index(self, iou_threshold: float | None) -> np.ndarray:
        if iou_threshold is None:
            return np.arange(len(self.iou_thresholds))
        index = np.flatnonzero(np.isclose(self.iou_thresholds, iou_threshold))
        if len(index) == 0:
            raise ValueError(
                f"iou_threshold {iou_threshold} was not evaluated; evaluated: {self.iou_thresholds.round(4).tolist()}"
            )
        return index

    def _area_index(self, area: str) -> int:
        if area not in self.area_names:
            raise ValueError(f"area {area!r} was not evaluated; evaluated: {', '.join(self.area_names)}")
        return self.area_names.index(area)
