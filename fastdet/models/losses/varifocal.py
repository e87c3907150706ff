"""Varifocal loss of classes that say how good the box is."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES


@LOSSES.register()
class VarifocalLoss:
    """Binary cross entropy towards the quality of the box; where that is 0, scaled down where the score is low already.

    Source: Zhang et al., VarifocalNet, equation 2.

    Args:
        use_sigmoid: must be True.
        alpha: weight of the background.
        gamma: exponent of the background's score.
        iou_weighted: objects are weighted by their quality.

    Raises:
        ValueError: use_sigmoid is False.
    """

    use_sigmoid: ClassVar[bool] = True

    def __init__(
        self,
        use_sigmoid: bool = True,
        alpha: float = 0.75,
        gamma: float = 2.0,
        iou_weighted: bool = True,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        if not use_sigmoid:
            raise ValueError("VarifocalLoss needs use_sigmoid=True")
        self.alpha, self.gamma, self.iou_weighted = alpha, gamma, iou_weighted
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of logits for qualities of the same shape, in [0, 1]; the weight broadcasts against both."""
        present = target if self.iou_weighted else torch.ones_like(target)
        focus = torch.where(target > 0, present, self.alpha * (logits.sigmoid() - target).abs().pow(self.gamma))
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * focus
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)
