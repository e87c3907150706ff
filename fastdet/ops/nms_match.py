"""Which kept box of non-maximum suppression each box belongs to.

N boxes.
"""

import torch
from torch import Tensor

from fastdet.ops.checks import as_coordinates, check_iou_threshold, check_shape


def nms_match(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The rule of `mmcv.ops.nms_match`, with an owner for each box instead of lists whose sizes depend on the data.

    Boxes are taken by descending score (ties: lower index first; NaN scores last). A box that no earlier owner has
    owns itself and every later box without an owner whose IoU with it is at least the threshold.

    Args:
        boxes: [N, 4] xyxy.
        scores: [N].
        iou_threshold: In [0, 1].

    Returns:
        int64 [N]: the index of each box's owner, its own for kept boxes.

    Raises:
        ValueError: A shape, dtype or the threshold does not fit.
    """
    check_shape("boxes", boxes, None, 4)
    check_shape("scores", scores, boxes.shape[0])
    check_iou_threshold(iou_threshold)
    scores = as_coordinates("scores", scores)
    # NaN behind minus infinity: a stable sort by score, then by whether it is a number.
    order = torch.nan_to_num(scores, -torch.inf, torch.inf, -torch.inf).argsort(descending=True, stable=True)
    order = order[scores[order].isnan().to(torch.uint8).argsort(stable=True)]
    owners = torch.ops.fastdet.nms_match(as_coordinates("boxes", boxes)[order], iou_threshold)
    return torch.empty_like(order).scatter_(0, order, order[owners])


@torch.library.register_fake("fastdet::nms_match")
def _nms_match_fake(boxes: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty(boxes.shape[0], dtype=torch.int64)
