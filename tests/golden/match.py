"""Compares what a detector computes with a golden record."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TOP = 100
BOX_TOLERANCE = 0.02  # pixels
SCORE_TOLERANCE = 1e-4


def matched_share(expected: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """The share of expected detections that were found; 1 if none is expected and none was found."""
    number = len(expected["scores"][:TOP])
    if number == 0 or len(found["scores"]) == 0:
        return float(number == len(found["scores"]))
    return len(matched_pairs(expected, found)) / number


def matched_pairs(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Indices of an expected and the found detection that fits: same label, nearest box and score in the tolerances.

    Each holds `boxes`, `scores` and `labels` by score; the first hundred are compared, each found one used once.
    """
    expected_boxes, found_boxes = (np.array(d["boxes"], float).reshape(-1, 4)[:TOP] for d in (expected, found))
    expected_labels, found_labels = (labels_of(d) for d in (expected, found))
    expected_scores, found_scores = (np.array(d["scores"], float)[:TOP] for d in (expected, found))
    used = np.zeros(len(found_boxes), bool)
    pairs = []
    for index, (box, label, score) in enumerate(zip(expected_boxes, expected_labels, expected_scores, strict=True)):
        box_error = np.abs(found_boxes - box).max(1)
        score_error = np.abs(found_scores - score)
        fits = ~used & (found_labels == label) & (box_error <= BOX_TOLERANCE) & (score_error <= SCORE_TOLERANCE)
        if fits.any():
            nearest = int(np.where(fits, box_error + 10 * score_error, np.inf).argmin())
            used[nearest] = True
            pairs.append((index, nearest))
    return pairs


def largest_area_difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> int:
    """The largest difference of the areas of two masks that belong together, in pixels."""
    areas = expected["mask_area"], found["mask_area"]
    return max((abs(int(areas[0][i]) - int(areas[1][j])) for i, j in matched_pairs(expected, found)), default=0)


def labels_of(detections: Mapping[str, Any]) -> np.ndarray:
    """Labels of the first hundred; proposals have none and count as 0."""
    labels: Sequence[int] | None = detections["labels"]
    return np.array(labels if labels is not None else [0] * len(detections["scores"]))[:TOP]


def largest_error(expected: Mapping[str, float], found: Mapping[str, float]) -> float:
    """The largest relative error over the expected names; infinite where one is missing."""
    errors = [abs(found.get(name, np.inf) - value) / max(abs(value), 1e-3) for name, value in expected.items()]
    return max(errors, default=0.0)
