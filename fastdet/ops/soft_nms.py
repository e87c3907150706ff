"""Soft non-maximum suppression: overlapping boxes lose score instead of being left out.

B images, N boxes, K kept or output slots.
"""

from typing import Literal

import torch
from torch import Tensor

from fastdet.ops.checks import as_coordinates, check_dtype, check_iou_threshold, check_shape

SoftNmsMethod = Literal["naive", "linear", "gaussian"]
METHODS: tuple[SoftNmsMethod, ...] = ("naive", "linear", "gaussian")
"""Names of the methods, in the order of the kernels' numbers."""


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    *,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: SoftNmsMethod = "linear",
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Takes the box with the best score, lowers the scores of the boxes of its group that overlap it, and so on.

    A score is multiplied by 1 - IoU ("linear") or 0 ("naive") where the IoU reaches the threshold, or by
    exp(-IoU^2 / sigma) ("gaussian"). Boxes whose score falls below `min_score` are left out; if all are below from the
    start, the best one is kept alone. Ties take the lower index first; NaN scores are left out; boxes with a NaN
    coordinate and empty boxes overlap nothing.

    Args:
        boxes: [N, 4] xyxy, any unit, any sign.
        scores: [N].
        iou_threshold: In [0, 1]; has no part in "gaussian".
        sigma: Width of "gaussian".
        min_score: Least score of a box that stays.
        method: How scores fall.
        groups: [N] int64: only boxes of the same group lower each other's scores. None: one group.

    Returns:
        Indices of the kept boxes, int64 [K], by descending final score, and these scores, float32 [K]. K depends on
        the data: on a GPU the host waits for it; `soft_nms_padded` does not.

    Raises:
        ValueError: A shape, dtype, threshold, sigma or the method does not fit.

    Source: Bodla et al., "Soft-NMS" (ICCV 2017), equations 1 to 3; with the arguments of `mmcv.ops.soft_nms`, but exact
    per group instead of by shifted coordinates.
    """
    check_shape("boxes", boxes, None, 4)
    check_shape("scores", scores, boxes.shape[0])
    _check_groups(groups, scores)
    return torch.ops.fastdet.soft_nms(
        as_coordinates("boxes", boxes),
        as_coordinates("scores", scores),
        groups,
        _method(method, iou_threshold, sigma),
        iou_threshold,
        sigma,
        min_score,
    )


def soft_nms_padded(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    iou_threshold: float,
    max_output: int,
    valid: Tensor | None = None,
    *,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: SoftNmsMethod = "linear",
) -> tuple[Tensor, Tensor, Tensor]:
    """`soft_nms` of each image into a fixed number of slots: no host sync, fit for CUDA graphs and export.

    Args:
        boxes: [B, N, 4] xyxy.
        scores: [B, N].
        groups: [B, N] int64, or None: one group.
        iou_threshold: In [0, 1].
        max_output: K, the number of slots; the K boxes with the best final scores are returned.
        valid: [B, N] bool: boxes that take part. None: all.
        sigma: Width of "gaussian".
        min_score: Least score of a box that stays.
        method: How scores fall.

    Returns:
        Indices of the kept boxes, int64 [B, K], by descending final score, 0 in unused slots; these scores, float32
        [B, K], 0 in unused slots; and how many slots are used, int64 [B].

    Raises:
        ValueError: A shape, dtype, threshold, sigma, `max_output` or the method does not fit.
    """
    check_shape("boxes", boxes, None, None, 4)
    check_shape("scores", scores, *boxes.shape[:2])
    _check_groups(groups, scores)
    if valid is not None:
        check_shape("valid", valid, *scores.shape)
        check_dtype("valid", valid, torch.bool)
    if max_output < 0:
        raise ValueError(f"`max_output` must not be negative, got {max_output}")
    return torch.ops.fastdet.soft_nms_padded(
        as_coordinates("boxes", boxes),
        as_coordinates("scores", scores),
        groups,
        valid,
        _method(method, iou_threshold, sigma),
        iou_threshold,
        sigma,
        min_score,
        max_output,
    )


def _check_groups(groups: Tensor | None, scores: Tensor) -> None:
    if groups is not None:
        check_shape("groups", groups, *scores.shape)
        check_dtype("groups", groups, torch.int64)


def _method(method: SoftNmsMethod, iou_threshold: float, sigma: float) -> int:
    """The kernels' number, after a check of what goes with it."""
    check_iou_threshold(iou_threshold)
    if sigma <= 0:
        raise ValueError(f"`sigma` must be positive, got {sigma}")
    if method not in METHODS:
        raise ValueError(f"`method` must be 'naive', 'linear' or 'gaussian', got {method!r}")
    return METHODS.index(method)


@torch.library.register_fake("fastdet::soft_nms")
def _soft_nms_fake(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    method: int,
    iou_threshold: float,
    sigma: float,
    min_score: float,
) -> tuple[Tensor, Tensor]:
    kept = torch.library.get_ctx().new_dynamic_size(min=0)
    return boxes.new_empty(kept, dtype=torch.int64), scores.new_empty(kept)


@torch.library.register_fake("fastdet::soft_nms_padded")
def _soft_nms_padded_fake(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    valid: Tensor | None,
    method: int,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    max_output: int,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (boxes.shape[0], max_output)
    count = boxes.new_empty(boxes.shape[0], dtype=torch.int64)
    return boxes.new_empty(shape, dtype=torch.int64), scores.new_empty(shape), count
