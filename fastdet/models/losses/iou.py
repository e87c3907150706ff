"""Losses of boxes by how they overlap with their objects: IoU, GIoU, DIoU, CIoU and bounded IoU.

They take boxes in pixels (or any one unit), so they serve dense heads and RoI heads with decoded boxes alike.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fastdet import ops
from fastdet.models import geometry
from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES

PairLoss = Callable[[Tensor, Tensor], Tensor]
"""Boxes [..., 4] and their objects [..., 4] to a loss of each pair [...], or of each pair's four terms [..., 4]."""


class OverlapLoss:
    """A loss of pairs of boxes, weighted and averaged.

    Pairs of weight 0 are replaced before the loss, so that boxes which nobody looks at cannot spoil a gradient.

    Args:
        function: the loss of each pair.
    """

    def __init__(self, function: PairLoss, *, reduction: Reduction = "mean", loss_weight: float = 1.0) -> None:
        self.function = function
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self, values: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of boxes [..., 4] xyxy for objects [..., 4]; the weight is [...], or [..., 4] and then averaged."""
        if weight is not None:
            weight = weight.mean(-1) if weight.dim() == values.dim() else weight  # [...]
            counted = (weight != 0)[..., None]
            unit = torch.arange(4, device=values.device) // 2  # the box 0, 0, 1, 1
            values, target = torch.where(counted, values, unit), torch.where(counted, target, unit)
        loss = self.function(values.float(), target.float())
        if weight is not None and loss.dim() == values.dim():
            weight = weight[..., None]
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)


@LOSSES.register("IoULoss")
def iou_loss(
    linear: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
    loss_weight: float = 1.0,
    mode: Literal["log", "linear", "square"] = "log",
) -> OverlapLoss:
    """-log IoU (Yu et al., UnitBox, section 3), 1 - IoU, or 1 - IoU^2; the IoU is at least `eps`.

    Raises:
        ValueError: an unknown mode.
    """
    scales: dict[str, Callable[[Tensor], Tensor]] = {
        "log": lambda iou: -iou.log(),
        "linear": lambda iou: 1 - iou,
        "square": lambda iou: 1 - iou * iou,
    }
    if mode not in scales:
        raise ValueError(f"mode must be 'log', 'linear' or 'square', not {mode!r}")
    scale = scales["linear" if linear else mode]

    def loss(boxes: Tensor, objects: Tensor) -> Tensor:
        return scale(ops.paired_box_iou(boxes, objects).clamp(min=eps))

    return OverlapLoss(loss, reduction=reduction, loss_weight=loss_weight)


@LOSSES.register("GIoULoss")
def giou_loss(eps: float = 1e-6, reduction: Reduction = "mean", loss_weight: float = 1.0) -> OverlapLoss:
    """1 - GIoU: the part of the enclosing box that neither covers counts too.

    Source: Rezatofighi et al., Generalized Intersection over Union, algorithm 2.
    """

    def loss(boxes: Tensor, objects: Tensor) -> Tensor:
        return 1 - ops.paired_box_iou(boxes, objects, kind="giou", eps=eps)

    return OverlapLoss(loss, reduction=reduction, loss_weight=loss_weight)


@LOSSES.register("DIoULoss")
def diou_loss(eps: float = 1e-6, reduction: Reduction = "mean", loss_weight: float = 1.0) -> OverlapLoss:
    """1 - IoU plus the squared distance of the centres over the squared diagonal of the enclosing box.

    Source: Zheng et al., Distance-IoU Loss, equation 7.
    """

    def loss(boxes: Tensor, objects: Tensor) -> Tensor:
        return 1 - ops.paired_box_iou(boxes, objects, kind="diou", eps=eps)

    return OverlapLoss(loss, reduction=reduction, loss_weight=loss_weight)


@LOSSES.register("CIoULoss")
def ciou_loss(eps: float = 1e-6, reduction: Reduction = "mean", loss_weight: float = 1.0) -> OverlapLoss:
    """DIoU and a penalty of other proportions, which counts from an IoU of 0.5 upwards.

    Source: Zheng et al., Enhancing Geometric Factors, equations 10 to 12.
    """

    def loss(boxes: Tensor, objects: Tensor) -> Tensor:
        return 1 - ops.paired_box_iou(boxes, objects, kind="ciou", eps=eps).clamp(-1, 1)

    return OverlapLoss(loss, reduction=reduction, loss_weight=loss_weight)


@LOSSES.register("BoundedIoULoss")
def bounded_iou_loss(
    beta: float = 0.2, eps: float = 1e-3, reduction: Reduction = "mean", loss_weight: float = 1.0
) -> OverlapLoss:
    """Smooth L1 of four bounds of the IoU: what each of centre and size alone would leave of it.

    Source: Tychsen-Smith and Petersson, Improving Object Localization with Fitness NMS and Bounded IoU Loss, section 4.
    """

    def loss(boxes: Tensor, objects: Tensor) -> Tensor:
        shift = 2 * (geometry.centers(objects) - geometry.centers(boxes)).abs()  # [..., 2]
        size, wanted = torch.stack(_sides(boxes), -1), torch.stack(_sides(objects), -1)
        of_center = ((wanted - shift) / (wanted + shift + eps)).clamp(min=0)
        of_size = torch.minimum(wanted / (size + eps), size / (wanted + eps))
        terms = 1 - torch.cat((of_center, of_size), dim=-1)
        return torch.where(terms < beta, 0.5 * terms * terms / beta, terms - 0.5 * beta)

    return OverlapLoss(loss, reduction=reduction, loss_weight=loss_weight)


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height."""
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
