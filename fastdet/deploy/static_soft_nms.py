"""The body of soft non-maximum suppression in an exported graph: one step a slot, unrolled.

Letters: B images, N boxes, n candidates, K output slots.
"""

import torch
from torch import Tensor

from fastdet import ops
from fastdet.deploy.static_ops import REFUSED, TOP_K_LIMIT
from fastdet.ops.soft_nms import METHODS


def soft_nms_padded(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    valid: Tensor | None,
    method: int,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    max_output: int,
    *,
    candidates: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`ops.soft_nms_padded` over the best `candidates` boxes, of scores that are not negative.

    The best score that is left is never higher than the one before, so K steps make the K best. A box that was no
    candidate could have been chosen only if its score were as high as the last one chosen: scores never rise.

    Args:
        method: the number of one of `METHODS`.

    Returns:
        Indices [B, K], scores [B, K] and counts [B] as the op gives them, and whether they are the op's, int64 [B].
    """
    masked = scores if valid is None else torch.where(valid, scores, REFUSED)
    masked = torch.where(masked >= 0, masked, REFUSED)
    total = boxes.shape[1]
    number = min(candidates, total, TOP_K_LIMIT - 1)
    order = ops.top_indices(masked, min(number + 1, total))
    beyond = masked.gather(1, order[:, number:]) if number < total else None  # [B, 1]: the best that is no candidate
    order = order[:, :number].sort(1).values  # of equals the lower index comes first, whatever they were before
    left = masked.gather(1, order)  # [B, n]
    factors = _factors(boxes.gather(1, order[..., None].expand(-1, -1, 4)), method, iou_threshold, sigma)
    if groups is not None:
        own = groups.gather(1, order)
        factors = torch.where(own[:, :, None] == own[:, None], factors, 1.0)
    place = torch.arange(number)
    chosen, final = [], []
    for _ in range(min(max_output, number)):
        best, score = left.argmax(1, keepdim=True), left.amax(1, keepdim=True)  # [B, 1]
        chosen.append(order.gather(1, best))
        final.append(score)
        lower = left * factors.gather(1, best[..., None].expand(-1, 1, number)).squeeze(1)
        left = torch.where((left >= 0) & (lower >= min_score) & (place != best), lower, REFUSED)
    ranked = torch.cat(final, dim=1)
    filled = ranked >= 0
    index, ranked = torch.where(filled, torch.cat(chosen, dim=1), 0), torch.where(filled, ranked, 0.0)
    count = filled.sum(1)
    exact = torch.ones_like(count)
    if beyond is not None:
        last = ranked[:, -1:]
        settled = (beyond < 0) | ((count >= max_output)[:, None] & (last > beyond))
        exact = settled.squeeze(1).long()
    missing = max_output - index.shape[1]
    if missing:
        index, ranked = (torch.nn.functional.pad(values, (0, missing)) for values in (index, ranked))
    return index, ranked, count, exact


def _factors(boxes: Tensor, method: int, iou_threshold: float, sigma: float) -> Tensor:
    """What each box [B, n, 4] leaves of the scores of the others, [B, n, n]."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    zero = torch.zeros((), dtype=boxes.dtype)
    areas = torch.maximum(x2 - x1, zero) * torch.maximum(y2 - y1, zero)
    width = torch.minimum(x2[:, :, None], x2[:, None]) - torch.maximum(x1[:, :, None], x1[:, None])
    height = torch.minimum(y2[:, :, None], y2[:, None]) - torch.maximum(y1[:, :, None], y1[:, None])
    shared = torch.maximum(width, zero) * torch.maximum(height, zero)
    union = (areas[:, :, None] + areas[:, None]) - shared
    iou = torch.where(union > 0, shared / torch.where(union > 0, union, 1.0), -1.0)
    if METHODS[method] == "gaussian":
        return torch.where(iou > 0, (-iou * iou / sigma).exp(), 1.0)
    return torch.where(iou >= iou_threshold, 1 - iou if METHODS[method] == "linear" else 0.0, 1.0)
