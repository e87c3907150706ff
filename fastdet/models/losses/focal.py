"""Focal loss.

Letters: C classes.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES


@LOSSES.register()
class FocalLoss:
    """Binary cross entropy of each class, scaled down where the prediction is right already.

    Source: Lin et al., Focal Loss for Dense Object Detection, equation 5.

    Args:
        use_sigmoid: must be True, the softmax form is not defined by the paper.
        gamma: exponent of the wrong probability.
        alpha: weight of positives; negatives have 1 - alpha.
    """

    use_sigmoid: ClassVar[bool] = True

    def __init__(
        self,
        use_sigmoid: bool = True,
        gamma: float = 2.0,
        alpha: float = 0.25,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        if not use_sigmoid:
            raise ValueError("FocalLoss needs use_sigmoid=True")
        self.gamma = gamma
        self.alpha = alpha
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self, logits: Tensor, labels: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of logits [..., C] for labels [...], C for background, weighted by [...]."""
        target = labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)  # [..., C]
        probability = logits.sigmoid()
        wrong = torch.where(target, 1 - probability, probability)
        balance = torch.where(target, self.alpha, 1 - self.alpha)
        entropy = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
        loss = entropy * (balance * wrong.pow(self.gamma))
        weight = None if weight is None else weight[..., None]
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)
