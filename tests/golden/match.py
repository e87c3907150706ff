"""Compares what a detector computes with a golden record."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TOP = 100
BOX_TOLERANCE = 0.02  # pixels
SCORE_TOLERANCE = 1e-4


def matched_share(expected: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """The share of expected detections that were found: same label, nearest box and score within the tolerances.

    Each holds `boxes`, `scores` and `labels` by score; the first hundred are compared, each found one used once.
    """
    expected_boxes, found_boxes = (np.array(d["boxes"], float).reshape(-1, 4)[:TOP] for d in (expected, found))
    if len(expected_boxes) == 0 or len(found_boxes) == 0:
        return float(len(expected_boxes) == len(found_boxes))
    expected_labels, found_labels = (labels_of(d) for d in (expected, found))
    expected_scores, found_scores = (np.array(d["scores"], float)[:TOP] for d in (expected, found))
    used = np.zeros(len(found_boxes), bool)
    for box, label, score in zip(expected_boxes, expected_labels, expected_scores, strict=True):
        box_error = np.abs(found_boxes - box).max(1)
        score_error = np.abs(found_scores - score)
        fits = ~used & (found_labels == label) & (box_error <= BOX_TOLERANCE) & (score_error <= SCORE_TOLERANCE)
        if fits.any():
            used[np.where(fits, box_error + 10 * score_error, np.inf).argmin()] = True
    return float(used.sum()) / len(expected_boxes)


def labels_of(detections: Mapping[str, Any]) -> np.ndarray:
    """Labels of the first hundred; proposals have none and count as 0."""
    labels: Sequence[int] | None = detections["labels"]
    return np.array(labels if labels is not None else [0] * len(detections["scores"]))[:TOP]


def largest_error(expected: Mapping[str, float], found: Mapping[str, float]) -> float:
    """The largest relative error over the expected names; infinite where one is missing."""
    errors = [abs(found.get(name, np.inf) - value) / max(abs(value), 1e-3) for name, value in expected.items()]
    return max(errors, default=0.0)
