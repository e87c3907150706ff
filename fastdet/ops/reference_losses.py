"""Slow twins of the ops that losses are made of; `fastdet.ops.reference` has them all."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    weight: Tensor | None = None,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Tensor:
    """The formula with one-hot targets; differentiable through torch."""
    target = labels[..., None] == torch.arange(logits.shape[-1])
    own = torch.where(target, logits, -logits)  # the logit of being right
    balance = 1.0 if alpha is None else torch.where(target, logits.new_tensor(alpha), 1 - alpha)
    loss = -balance * torch.sigmoid(-own) ** gamma * F.logsigmoid(own)
    if weight is not None:
        weight = weight if weight.dim() == logits.dim() else weight[..., None]
        loss = torch.where(weight == 0, 0.0, loss * weight)
    return loss.sum() if reduction == "sum" else loss


def paired_box_iou(first: Tensor, second: Tensor, *, kind: str = "iou", eps: float = 1e-6) -> Tensor:
    """The definitions, one after the other; differentiable through torch."""

    def sides(boxes: Tensor) -> Tensor:
        return boxes[..., 2:] - boxes[..., :2]

    shared_sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    shared = shared_sides.clamp(min=0).prod(-1)
    area, other_area = sides(first).prod(-1), sides(second).prod(-1)
    if kind == "iof":
        return shared / area.clamp(min=eps)
    union = (area + other_area - shared).clamp(min=eps)
    iou = shared / union
    low, high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    enclosing = (high - low).clamp(min=0)
    if kind == "iou":
        return iou
    if kind == "giou":
        area = enclosing.prod(-1).clamp(min=eps)
        return iou - (area - union) / area
    shift = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    distance = shift.square().sum(-1) / (enclosing.square().sum(-1) + eps)
    if kind == "diou":
        return iou - distance
    angle, other = (torch.atan(sides(v)[..., 0] / (sides(v)[..., 1] + eps)) for v in (first, second))
    shape = 4 / math.pi**2 * (other - angle).square()
    factor = torch.where(iou > 0.5, shape / (1 - iou + shape).clamp(min=eps), 0.0).detach()
    return iou - distance - factor * shape


def box_iou(first: Tensor, second: Tensor, *, kind: str = "iou", eps: float = 1e-6) -> Tensor:
    """`paired_box_iou` of all pairs."""
    rows, columns = torch.broadcast_tensors(first[..., :, None, :], second[..., None, :, :])
    return paired_box_iou(rows, columns, kind=kind, eps=eps)
