"""Focal loss.

Letters: C classes.
"""

from typing import ClassVar, Literal

from torch import Tensor

from fastdet import ops
from fastdet.models.losses.reduction import Reduction, reduce_sum
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
        kind: Literal["none", "sum"] = "none" if self.reduction == "none" else "sum"
        loss = ops.sigmoid_focal_loss(logits, labels, weight=weight, alpha=self.alpha, gamma=self.gamma, reduction=kind)
        if kind == "sum":
            loss = reduce_sum(loss, logits.numel(), reduction=self.reduction, avg_factor=avg_factor)
        return self.loss_weight * loss
