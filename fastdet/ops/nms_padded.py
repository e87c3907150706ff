"""Batched non-maximum suppression of fixed shape: no host sync, fit for CUDA graphs and export.

B images, N boxes, K output slots.
"""

import torch
from torch import Tensor

from fastdet.ops.checks import as_coordinates, check_dtype, check_iou_threshold, check_shape


def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    iou_threshold: float,
    max_output: int,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression of each image, exact per group, into a fixed number of slots.

    The rule is that of `nms`: descending score, ties to the lower index, IoU greater than the threshold suppresses.

    Args:
        boxes: [B, N, 4] xyxy.
        scores: [B, N].
        groups: [B, N] int64: only boxes of the same group suppress each other. None: one group.
        iou_threshold: In [0, 1].
        max_output: K, the number of slots; the K best kept boxes are returned.
        valid: [B, N] bool: boxes that take part. None: all.

    Returns:
        Indices of the kept boxes, int64 [B, K], by descending score, 0 in unused slots; and how many slots are used,
        int64 [B].

    Raises:
        ValueError: A shape, dtype, the threshold or `max_output` does not fit.
    """
    check_shape("boxes", boxes, None, None, 4)
    shape = boxes.shape[:2]
    check_shape("scores", scores, *shape)
    for name, tensor, dtype in (("groups", groups, torch.int64), ("valid", valid, torch.bool)):
        if tensor is not None:
            check_shape(name, tensor, *shape)
            check_dtype(name, tensor, dtype)
    check_iou_threshold(iou_threshold)
    if max_output < 0:
        raise ValueError(f"`max_output` must not be negative, got {max_output}")
    return torch.ops.fastdet.nms_padded(
        as_coordinates("boxes", boxes), as_coordinates("scores", scores), groups, valid, iou_threshold, max_output
    )


@torch.library.register_fake("fastdet::nms_padded")
def _nms_padded_fake(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, valid: Tensor | None, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    batch = boxes.shape[0]
    return boxes.new_empty(batch, max_output, dtype=torch.int64), boxes.new_empty(batch, dtype=torch.int64)
