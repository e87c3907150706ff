"""Assignment of candidate boxes to objects by intersection over union, without the matrix of all pairs.

B images, P candidates, M object slots.
"""

import torch
from torch import Tensor

from fastdet.ops.checks import as_coordinates, check_dtype, check_shape


def assign_max_iou(
    boxes: Tensor,
    objects: Tensor,
    valid: Tensor,
    *,
    positive: float,
    negative: float | tuple[float, float],
    min_positive: float = 0.0,
    match_low_quality: bool = True,
    all_ties: bool = True,
    candidates: Tensor | None = None,
    blocked: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The object that each candidate answers for, by the rule of Faster R-CNN.

    A candidate whose best IoU is at least `positive` takes its best object (ties: the first one), one whose best IoU
    lies in the `negative` range is background, others are ignored. Then every object whose best IoU is at least
    `min_positive` takes its best candidates, also from other objects; among several objects the last one wins. In an
    image without objects every candidate is background. IoU is inter / max(union, 1e-6); a NaN coordinate overlaps
    nothing. Memory is O(B * (P + M)) on a GPU, and M / 256 of the matrix on the CPU.

    Args:
        boxes: [P, 4] shared by the images, or [B, P, 4]; xyxy.
        objects: [B, M, 4] xyxy.
        valid: [B, M] bool: the slots that hold an object.
        positive: Smallest IoU of a positive.
        negative: Negatives have an IoU in [low, high), or below one number.
        min_positive: Smallest IoU of a match of the second step.
        match_low_quality: Whether there is a second step.
        all_ties: Whether an object takes all candidates that share its best IoU, else the first.
        candidates: [B, P] bool: boxes that take part; others are ignored and overlap nothing.
        blocked: [B, P] bool: boxes that are ignored however they overlap, such as those in crowds.

    Returns:
        int64 [B, P]: the object's slot, -1 background, -2 ignored; and the best IoU, float32 [B, P]: -1 for blocked
        candidates, 0 for boxes that do not take part and in images without objects.

    Raises:
        ValueError: A shape or dtype does not fit.

    Source: Ren et al., "Faster R-CNN" (NeurIPS 2015), section 3.1.2; the second step as in MMDetection.
    """
    check_shape("objects", objects, None, None, 4)
    batch, num_objects = objects.shape[:2]
    if boxes.dim() == 2:
        check_shape("boxes", boxes, None, 4)
    else:
        check_shape("boxes", boxes, batch, None, 4)
    check_shape("valid", valid, batch, num_objects)
    check_dtype("valid", valid, torch.bool)
    for name, flags in (("candidates", candidates), ("blocked", blocked)):
        if flags is not None:
            check_shape(name, flags, batch, boxes.shape[-2])
            check_dtype(name, flags, torch.bool)
    low, high = negative if isinstance(negative, tuple) else (0.0, negative)
    return torch.ops.fastdet.assign_max_iou(
        as_coordinates("boxes", boxes.detach()),
        as_coordinates("objects", objects.detach()),
        valid,
        candidates,
        blocked,
        positive,
        low,
        high,
        min_positive,
        match_low_quality,
        all_ties,
    )


@torch.library.register_fake("fastdet::assign_max_iou")
def _assign_max_iou_fake(
    boxes: Tensor,
    objects: Tensor,
    valid: Tensor,
    candidates: Tensor | None,
    blocked: Tensor | None,
    positive: float,
    negative_low: float,
    negative_high: float,
    min_positive: float,
    match_low_quality: bool,
    all_ties: bool,
) -> tuple[Tensor, Tensor]:
    shape = (objects.shape[0], boxes.shape[-2])
    return boxes.new_empty(shape, dtype=torch.int64), boxes.new_empty(shape)
