"""Arithmetic of boxes that assigners, coders and losses share.

Letters: B images, P candidates, m object slots (a slice of M), I slots of ignored objects.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from fastdet import ops
from fastdet.structures import Targets

PAIRS_AT_ONCE = 1 << 26
"""How many values of object and candidate are held at a time: 256 MB in float32, beside a few temporaries of that size.
Batches with more pairs are worked through in slices of the object slots; the slicing depends on shapes alone."""


def areas(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def centers(boxes: Tensor) -> Tensor:
    """Centres (x, y) [..., 2] of boxes [..., 4]."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def sides_from(points: Tensor, boxes: Tensor) -> Tensor:
    """How far left, top, right and bottom side lie from points [..., 2]: [..., 4], positive inside the box."""
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def intersections(first: Tensor, second: Tensor) -> Tensor:
    """Areas shared by boxes [B, m, 4] and [P, 4] or [B, P, 4]: [B, m, P]."""
    x1, y1, x2, y2 = (v[..., None] for v in first.float().unbind(-1))
    u1, v1, u2, v2 = (v.unsqueeze(-2) for v in second.unbind(-1))
    width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
    return width * (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0)


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes [B, m, 4] and [P, 4] or [B, P, 4]: [B, m, P], without a gradient. The union is at least 1e-6."""
    return ops.box_iou(first, second)


def paired_overlaps(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """IoU of each box with its partner, [..., 4] and [..., 4]: [...]. The union is at least `eps`."""
    return ops.paired_box_iou(first, second, eps=eps)


def blocked(boxes: Tensor, targets: Targets, threshold: float, *, of_candidates: bool = True) -> Tensor | None:
    """Candidates that lie in an ignored object by more than a share of their area.

    Args:
        boxes: [P, 4] or [B, P, 4].
        threshold: the share; not positive: nothing is ignored.
        of_candidates: the share is of the candidate's area, else of the ignored object's.

    Returns:
        bool [B, P]; None where nothing can be ignored.
    """
    num_ignored = targets.ignore_boxes.shape[1]
    if threshold <= 0 or num_ignored == 0 or boxes.shape[-2] == 0:
        return None
    over = areas(boxes).unsqueeze(-2) if of_candidates else areas(targets.ignore_boxes)[..., None]
    shares = intersections(targets.ignore_boxes, boxes) / over.clamp(min=1e-6)  # [B, I, P]
    present = torch.arange(num_ignored, device=boxes.device) < targets.ignore_count[:, None]
    return torch.where(present[..., None], shares, 0.0).amax(dim=1) > threshold


def slot_slices(num_slots: int, pairs_each: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the slices of object slots, each of which makes `pairs_each` pairs."""
    step = max(1, PAIRS_AT_ONCE // max(1, pairs_each))
    for start in range(0, num_slots, step):
        yield start, min(start + step, num_slots)
