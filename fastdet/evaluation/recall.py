"""Recall of proposals by one-to-one matching: MMDetection's `proposal_fast` and VOC recall."""

from collections.abc import Sequence

import numpy as np


def box_iou(boxes1: np.ndarray, boxes2: np.ndarray, *, extra: float = 0.0) -> np.ndarray:
    """IoU of every pair [n, k] float32 of boxes [n, 4] and [k, 4].

    Args:
        extra: added to widths and heights: 1 for VOC's convention, where a box holds its last pixel.
    """
    first = boxes1.astype(np.float32)[:, None]
    second = boxes2.astype(np.float32)[None]
    one = np.float32(extra)
    inner = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2]) + one
    overlap = np.maximum(inner, 0).prod(axis=-1)
    area1 = (first[..., 2:] - first[..., :2] + one).prod(axis=-1)
    area2 = (second[..., 2:] - second[..., :2] + one).prod(axis=-1)
    return overlap / np.maximum(area1 + area2 - overlap, np.float32(1e-6))


def proposal_recalls(
    truths: Sequence[np.ndarray],
    proposals: Sequence[np.ndarray],
    *,
    proposal_nums: Sequence[int],
    iou_thresholds: Sequence[float],
    extra: float = 0.0,
) -> np.ndarray:
    """The share of objects that proposals find, [len(proposal_nums), len(iou_thresholds)] float64.

    In each image the pair with the largest IoU is matched first, then the next among what is left. Without any object
    the recall is NaN, as 0 of 0.

    Args:
        truths: boxes [g, 4] of each image.
        proposals: boxes [p, 4] of each image, best first; as many images.
        proposal_nums: how many proposals an image may use.
        iou_thresholds: the IoU from which an object counts as found.
        extra: see `box_iou`.
    """
    recalls = np.full((len(proposal_nums), len(iou_thresholds)), np.nan)
    overlaps = [
        box_iou(truth, found[: max(proposal_nums)], extra=extra) for truth, found in zip(truths, proposals, strict=True)
    ]
    for row, number in enumerate(proposal_nums):
        best = np.concatenate([_matched_ious(iou[:, :number]) for iou in overlaps]) if overlaps else np.zeros(0)
        if best.size:
            recalls[row] = [(best >= np.float32(threshold)).mean() for threshold in iou_thresholds]
    return recalls


def _matched_ious(iou: np.ndarray) -> np.ndarray:
    """The IoU of each matched object of an IoU matrix [g, p]; 0 for the others, in any order."""
    iou = iou.copy()
    best = np.zeros(len(iou), dtype=np.float32)
    for step in range(min(iou.shape)):
        truth, found = np.unravel_index(iou.argmax(), iou.shape)
        if iou[truth, found] <= 0:
            break
        best[step] = iou[truth, found]
        iou[truth, :] = -1
        iou[:, found] = -1
    return best
