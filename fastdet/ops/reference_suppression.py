"""Slow twins of soft suppression and matching; `fastdet.ops.reference` has them all."""

import math

import torch
from torch import Tensor


def overlaps(boxes: Tensor, iou_threshold: float) -> Tensor:
    """Which of boxes [N, 4] overlap by more than the threshold, bool [N, N]; NaN never, inverted boxes are empty."""
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inter = (high - low).clamp(min=0).prod(dim=2)
    union = (area[:, None] + area[None, :]) - inter
    return inter > torch.tensor(iou_threshold, dtype=boxes.dtype) * union


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Greedy: each box, by descending score, is kept unless a kept box of its group overlaps it."""
    rivals = (overlaps(boxes, iou_threshold) & (groups[:, None] == groups[None, :])).tolist()
    rank = torch.where(torch.isnan(scores), -math.inf, scores).tolist()
    # Ties keep the lower index first, NaN scores come last, behind -inf.
    order = sorted(range(len(rank)), key=lambda i: (-rank[i], bool(torch.isnan(scores[i])), i))
    kept: list[int] = []
    for i in order:
        if not any(rivals[i][j] for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`batched_nms` with one group."""
    return batched_nms(boxes, scores, torch.zeros(len(scores), dtype=torch.int64), iou_threshold)


def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    iou_threshold: float,
    max_output: int,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`batched_nms` of each image's valid boxes, cut and padded with 0."""
    batch, size = scores.shape
    index = torch.zeros(batch, max_output, dtype=torch.int64)
    count = torch.zeros(batch, dtype=torch.int64)
    for b in range(batch):
        chosen = torch.arange(size) if valid is None else torch.arange(size)[valid[b]]
        labels = torch.zeros(size, dtype=torch.int64) if groups is None else groups[b]
        kept = chosen[batched_nms(boxes[b, chosen], scores[b, chosen], labels[chosen], iou_threshold)][:max_output]
        index[b, : len(kept)] = kept
        count[b] = len(kept)
    return index, count


def pair_overlaps(boxes: Tensor) -> Tensor:
    """IoU [N, N] of boxes [N, 4]; inverted boxes are empty, and what is not a number is -1: less than no overlap."""
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inter = (high - low).clamp(min=0).prod(dim=2)
    return torch.nan_to_num(inter / ((area[:, None] + area[None, :]) - inter), nan=-1.0)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    *,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The rule, one chosen box at a time, in the type of the scores."""
    overlap = pair_overlaps(boxes).to(scores.dtype)
    groups = torch.zeros(len(scores), dtype=torch.int64) if groups is None else groups
    left = torch.where(scores > -math.inf, scores, -math.inf)  # minus infinity: taken or left out
    index: list[int] = []
    final: list[Tensor] = []
    while (left > -math.inf).any():
        best = int((left == left.max()).nonzero()[0])
        index.append(best)
        final.append(left[best].clone())
        left[best] = -math.inf
        if final[-1] < min_score:
            break
        iou = overlap[best]
        if method == "gaussian":
            lower = torch.where(iou > 0, left * torch.exp(-iou * iou / sigma), left)
        else:
            lower = torch.where(iou >= iou_threshold, left * (1 - iou) if method == "linear" else 0 * left, left)
        left = torch.where(groups == groups[best], lower, left)
        left = torch.where(left >= min_score, left, -math.inf)
    return torch.tensor(index, dtype=torch.int64), torch.stack(final) if final else scores[:0]


def nms_match(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The rule, one box at a time."""
    overlap = pair_overlaps(boxes)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    rank = torch.where(torch.isnan(scores), -math.inf, scores).tolist()
    order = sorted(range(len(rank)), key=lambda i: (-rank[i], bool(torch.isnan(scores[i])), i))
    owner: dict[int, int] = {}
    for i in order:
        if i in owner:
            continue
        owner[i] = i
        for j in order:
            touches = overlap[i, j] >= iou_threshold and float(area[i] + area[j]) > 0
            if j not in owner and touches:
                owner[j] = i
    return torch.tensor([owner[i] for i in range(len(rank))], dtype=torch.int64)
