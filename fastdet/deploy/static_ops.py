"""The bodies of fastdet's ops in an exported graph: fixed shapes, gathers and matrix products, nothing else.

Each function computes what the op of its name computes, from operators that every runtime has: no NonMaxSuppression,
NonZero, GridSample or RoiAlign. Non-maximum suppression also says whether its result is proven.

Letters: B images, N boxes, n candidates, K output slots, L levels, R RoIs, (p, q) bins, C channels, T taps.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet import ops

REFUSED = -1.0
"""Score of what takes no part. Scores are not negative; infinities would not survive half precision."""
TOP_K_LIMIT = 3840
"""The most that TensorRT's TopK gives."""


def kept_boxes(
    boxes: Tensor, present: Tensor, groups: Tensor | None, iou_threshold: float, rounds: int
) -> tuple[Tensor, Tensor]:
    """Greedy suppression as a fixed point, of boxes that lie by descending score.

    `keep = present and not suppressed by a kept one` is repeated. The first rows of a fixed point are right, so by
    induction all are: where two rounds agree, the result is that of greedy suppression. Every round settles at least
    one more link of each chain of suppressions, and such chains are short (10 among 3840 boxes of pictures).

    Args:
        boxes: [B, n, 4] xyxy.
        present: which boxes take part, bool [B, n].
        groups: [B, n]: only boxes of the same group suppress each other; None: all do.
        rounds: how often to repeat.

    Returns:
        Which boxes stay, bool [B, n], and whether that is proven, bool [B].
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    zero = torch.zeros((), dtype=boxes.dtype)
    areas = torch.maximum(x2 - x1, zero) * torch.maximum(y2 - y1, zero)
    width = torch.minimum(x2[:, :, None], x2[:, None]) - torch.maximum(x1[:, :, None], x1[:, None])
    height = torch.minimum(y2[:, :, None], y2[:, None]) - torch.maximum(y1[:, :, None], y1[:, None])
    shared = torch.maximum(width, zero) * torch.maximum(height, zero)
    rivals = shared > iou_threshold * (areas[:, :, None] + areas[:, None] - shared)  # [B, n, n]
    place = torch.arange(boxes.shape[1])
    rivals = rivals & (place[:, None] < place)
    if groups is not None:
        rivals = rivals & (groups[:, :, None] == groups[:, None])
    suppresses, some = rivals.to(boxes.dtype), present.to(boxes.dtype)[:, None]  # [B, n, n], [B, 1, n]
    keep = before = some
    for _ in range(rounds):
        before, keep = keep, (some - keep @ suppresses).relu()  # 1 where present and no kept one suppresses
    return (keep > 0.5).squeeze(1), (keep - before).abs().sum((1, 2)) < 0.5


def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    valid: Tensor | None,
    iou_threshold: float,
    max_output: int,
    *,
    candidates: int,
    rounds: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`ops.nms_padded` over the best `candidates` boxes.

    Returns:
        Indices [B, K] and counts [B] as the op gives them, and whether they are the op's, int64 [B]: suppression has
        settled, and either all boxes were candidates or all slots are filled.
    """
    masked = scores if valid is None else torch.where(valid, scores, REFUSED)
    if isinstance(boxes.shape[1], torch.SymInt):  # a graph of any size has as many candidates always
        boxes = F.pad(boxes, (0, 0, 0, candidates))
        masked = F.pad(masked, (0, candidates), value=REFUSED)
        groups = None if groups is None else F.pad(groups, (0, candidates))
        number = min(candidates, TOP_K_LIMIT)
    else:
        number = min(candidates, boxes.shape[1], TOP_K_LIMIT)
    order = ops.top_indices(masked, number)
    ranked = masked.gather(1, order)
    present = ranked >= 0
    chosen = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    keep, settled = kept_boxes(
        chosen, present, None if groups is None else groups.gather(1, order), iou_threshold, rounds
    )
    index, count, total = _slots(order, torch.where(keep, ranked, REFUSED), max_output)
    complete = (masked >= 0).sum(1) <= number
    return index, count, (settled & (complete | (total >= max_output))).long()


def nms_levels(
    boxes: Tensor,
    scores: Tensor,
    valid: Tensor,
    lengths: Sequence[int],
    iou_threshold: float,
    max_output: int,
    *,
    rounds: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`ops.nms_levels`, all levels in one batch; results as `nms_padded`'s, which looks at all boxes of a level."""
    masked = torch.where(valid, scores, REFUSED)
    longest, starts = max(lengths), [sum(lengths[:i]) for i in range(len(lengths))]
    if longest > TOP_K_LIMIT:
        raise ValueError(f"a level has {longest} candidates: set nms_pre to at most {TOP_K_LIMIT}")

    def by_level(values: Tensor, filler: float) -> Tensor:
        """[B, N, ...] -> [B * L, longest, ...]"""
        rows = [values.narrow(1, start, length) for start, length in zip(starts, lengths, strict=True)]
        extra = [0, 0] * (values.dim() - 2)
        padded = [F.pad(row, (*extra, 0, longest - row.shape[1]), value=filler) for row in rows]
        return torch.stack(padded, dim=1).flatten(0, 1)

    level_scores = by_level(masked, REFUSED)
    order = ops.top_indices(level_scores, longest)
    ranked = level_scores.gather(1, order)
    chosen = by_level(boxes, 0.0).gather(1, order[..., None].expand(-1, -1, 4))
    keep, settled = kept_boxes(chosen, ranked >= 0, None, iou_threshold, rounds)
    origin = order.unflatten(0, (-1, len(lengths))) + torch.tensor(starts)[:, None]  # [B, L, longest]
    kept = torch.where(keep, ranked, REFUSED).unflatten(0, (-1, len(lengths)))
    index, count, _ = _slots(origin.flatten(1), kept.flatten(1), max_output)
    return index, count, settled.unflatten(0, (-1, len(lengths))).all(1).long()


def _slots(origin: Tensor, kept: Tensor, max_output: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices [B, K] and counts [B] of the best kept ones [B, n], and how many there were [B]."""
    total = (kept >= 0).sum(1)
    number = min(max_output, kept.shape[1], TOP_K_LIMIT)
    best = ops.top_indices(kept, number)
    filled = torch.arange(number) < total[:, None]
    index = torch.where(filled, origin.gather(1, best), 0)
    if number < max_output:
        index = F.pad(index, (0, max_output - number))
    return index, torch.minimum(total, torch.tensor(number)), total
