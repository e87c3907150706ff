"""Batched non-maximum suppression within consecutive runs of boxes, the levels of a pyramid.

B images, N boxes, L levels, K output slots.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.ops.checks import as_coordinates, check_dtype, check_iou_threshold, check_shape


def nms_levels(
    boxes: Tensor, scores: Tensor, valid: Tensor, lengths: Sequence[int], iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    """`nms_padded` whose groups are the levels: the first `lengths[0]` boxes, the next `lengths[1]`, and so on.

    That the groups lie in runs of known length is what an exported graph needs: boxes are compared within a level
    alone, not with all others.

    Args:
        boxes: [B, N, 4] xyxy.
        scores: [B, N], not negative where valid.
        valid: [B, N] bool: boxes that take part.
        lengths: boxes of each level; their sum is N.
        iou_threshold: In [0, 1].
        max_output: K.

    Returns:
        As `nms_padded`: indices int64 [B, K] by descending score, 0 in unused slots, and the number used, int64 [B].

    Raises:
        ValueError: A shape, dtype, the lengths, the threshold or `max_output` does not fit.
    """
    check_shape("boxes", boxes, None, None, 4)
    check_shape("scores", scores, *boxes.shape[:2])
    check_shape("valid", valid, *boxes.shape[:2])
    check_dtype("valid", valid, torch.bool)
    check_iou_threshold(iou_threshold)
    if sum(lengths) != boxes.shape[1]:
        raise ValueError(f"`lengths` must add up to {boxes.shape[1]}, the number of boxes, got {tuple(lengths)}")
    if max_output < 0:
        raise ValueError(f"`max_output` must not be negative, got {max_output}")
    return torch.ops.fastdet.nms_levels(
        as_coordinates("boxes", boxes), as_coordinates("scores", scores), valid, lengths, iou_threshold, max_output
    )


@torch.library.custom_op("fastdet::nms_levels", mutates_args=())
def _nms_levels(
    boxes: Tensor, scores: Tensor, valid: Tensor, lengths: Sequence[int], iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    levels = [scores.new_full((n,), level, dtype=torch.int64) for level, n in enumerate(lengths)]
    groups = torch.cat(levels).expand(scores.shape).contiguous()
    return torch.ops.fastdet.nms_padded(boxes, scores, groups, valid, iou_threshold, max_output)


@_nms_levels.register_fake
def _nms_levels_fake(
    boxes: Tensor, scores: Tensor, valid: Tensor, lengths: Sequence[int], iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    batch = boxes.shape[0]
    return boxes.new_empty(batch, max_output, dtype=torch.int64), boxes.new_empty(batch, dtype=torch.int64)
