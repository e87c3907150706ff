"""Non-maximum suppression whose result has as many entries as boxes are kept.

N boxes, K kept.
"""

import torch
from torch import Tensor

from fastdet.ops.checks import as_coordinates, check_dtype, check_iou_threshold, check_shape


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression.

    Boxes are taken by descending score (ties: lower index first; NaN scores last). A taken box suppresses every later
    one whose IoU with it is greater than the threshold. A box with a NaN coordinate, and an inverted one, neither
    suppresses nor is suppressed.

    Args:
        boxes: [N, 4] xyxy, any unit, any sign.
        scores: [N].
        iou_threshold: In [0, 1].

    Returns:
        Indices of the kept boxes, int64 [K], by descending score. K depends on the data: on a GPU the host waits for
        it; `nms_padded` does not.

    Raises:
        ValueError: A shape, dtype or the threshold does not fit.
    """
    check_shape("boxes", boxes, None, 4)
    check_shape("scores", scores, boxes.shape[0])
    check_iou_threshold(iou_threshold)
    return torch.ops.fastdet.nms(as_coordinates("boxes", boxes), as_coordinates("scores", scores), iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """`nms` in which only boxes of the same group (class, level, image) suppress each other.

    Groups are compared as they are: no coordinate is shifted, so the result is exact for any coordinates and any
    group numbers.

    Args:
        boxes: [N, 4] xyxy.
        scores: [N].
        groups: [N] int64.
        iou_threshold: In [0, 1].

    Returns:
        Indices of the kept boxes of all groups, int64 [K], by descending score.

    Raises:
        ValueError: A shape, dtype or the threshold does not fit.
    """
    check_shape("boxes", boxes, None, 4)
    check_shape("scores", scores, boxes.shape[0])
    check_shape("groups", groups, boxes.shape[0])
    check_dtype("groups", groups, torch.int64)
    check_iou_threshold(iou_threshold)
    return torch.ops.fastdet.batched_nms(
        as_coordinates("boxes", boxes), as_coordinates("scores", scores), groups, iou_threshold
    )


@torch.library.register_fake("fastdet::nms")
def _nms_fake(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    kept = torch.library.get_ctx().new_dynamic_size(min=0)
    return boxes.new_empty(kept, dtype=torch.int64)


@torch.library.register_fake("fastdet::batched_nms")
def _batched_nms_fake(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    return _nms_fake(boxes, scores, iou_threshold)
