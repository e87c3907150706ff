"""Slow twins of what makes boxes of a dense head's output; `fastdet.ops.reference` has them all."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.ops.box_codes import BoxCode
from fastdet.ops.dense_postprocess import Levels
from fastdet.ops.reference_suppression import batched_nms


def grid_anchors(
    base_anchors: Tensor, sizes: Sequence[tuple[int, int]], strides: Sequence[tuple[float, float]]
) -> Tensor:
    """Four nested loops: level, y, x, base anchor."""
    anchors = [
        base + base.new_tensor([x * sx, y * sy, x * sx, y * sy])
        for level, ((height, width), (sx, sy)) in enumerate(zip(sizes, strides, strict=True))
        for y in range(height)
        for x in range(width)
        for base in base_anchors[level]
    ]
    return torch.stack(anchors) if anchors else base_anchors.new_zeros(0, 4)


def dense_postprocess(
    logits: Tensor,
    codes: Tensor,
    priors: Tensor,
    image_sizes: Tensor,
    levels: Levels,
    code: BoxCode,
    *,
    iou_threshold: float,
    max_output: int,
    limit: int = -1,
    score_threshold: float = -1.0,
    min_size: float = -1.0,
    quality: Tensor | None = None,
    rivals: str = "class",
    best_class: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One image, level and pair of prior and class at a time: (boxes, scores, labels, counts)."""
    batch, _, num_classes = logits.shape
    boxes, scores = torch.zeros(batch, max_output, 4), torch.zeros(batch, max_output)
    labels, counts = torch.zeros(batch, max_output, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64)
    laid_out = grid_anchors(priors, levels.sizes, levels.strides) if levels.strides else priors
    for b in range(batch):
        own = laid_out[b] if laid_out.dim() == 3 else laid_out
        found: list[tuple[Tensor, Tensor, int, int]] = []  # box, score, class, level
        first = 0
        for level, ((height, width), number) in enumerate(zip(levels.sizes, levels.cell_priors, strict=True)):
            length = height * width * number
            said = logits[b, first : first + length].flatten().float()
            score = said.sigmoid()
            factor = torch.ones(length) if quality is None else quality[b, first : first + length].float().sigmoid()
            product = score * factor.repeat_interleave(num_classes)
            if best_class:
                best = score.view(-1, num_classes).argmax(1) + torch.arange(length) * num_classes
                score = product
                pairs = [i for i in best.tolist() if score[i] >= score_threshold]
            else:
                pairs = [i for i in range(len(said)) if said[i] > -math.inf and score[i] > score_threshold]
            if limit > 0:
                pairs = sorted(sorted(pairs, key=lambda i: -float(score[i]))[:limit])
            for pair in pairs:
                prior = first + pair // num_classes
                box = decode_box(code, own[prior], codes[b, prior].float(), image_sizes[b])
                if min_size >= 0 and not bool((box[2:] - box[:2] > min_size).all()):
                    continue
                found.append((box, product[pair], pair % num_classes, level))
            first += length
        if not found:
            continue
        groups = torch.tensor([{"class": f[2], "level": f[3], "all": 0}[rivals] for f in found])
        all_boxes, all_scores = torch.stack([f[0] for f in found]), torch.stack([f[1] for f in found])
        kept = batched_nms(all_boxes, all_scores, groups, iou_threshold)[:max_output]
        counts[b] = len(kept)
        boxes[b, : len(kept)], scores[b, : len(kept)] = all_boxes[kept], all_scores[kept]
        labels[b, : len(kept)] = torch.tensor([found[i][2] for i in kept.tolist()], dtype=torch.int64)
    return boxes, scores, labels, counts


def decode_box(code: BoxCode, prior: Tensor, said: Tensor, image_size: Tensor) -> Tensor:
    """The box [4] that numbers describe at a prior [4], in an image of size (H, W)."""
    low, high = prior[:2], prior[2:]
    size, center = high - low, (low + high) / 2
    if code.kind == "delta":
        means, stds = (prior.new_tensor(code.numbers[start : start + 4]) for start in (0, 4))
        limit, center_limit = code.numbers[8:]
        shift, log_ratio = (said * stds + means).split(2)
        move = size * shift
        if center_limit >= 0:
            move, log_ratio = move.clamp(-center_limit, center_limit), log_ratio.clamp(max=limit)
        else:
            log_ratio = log_ratio.clamp(-limit, limit)
        half = size * log_ratio.exp() * 0.5
        box = torch.cat((center + move - half, center + move + half))
    elif code.kind == "cell":
        center, half = said[:2] * size + low, said[2:].exp() * size / 2
        box = torch.cat((center - half, center + half))
    else:
        if code.kind == "distribution":
            bins = said.view(4, -1)
            said = (bins.softmax(1) * torch.arange(bins.shape[1])).sum(1)
        distances = said * (torch.cat((size, size)) * code.numbers[0] if code.numbers[0] > 0 else 1.0)
        box = torch.cat((center - distances[:2], center + distances[2:]))
    return torch.minimum(box.clamp(min=0), image_size.flip(0).repeat(2)) if code.clips else box
