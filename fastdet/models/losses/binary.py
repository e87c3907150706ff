"""Binary cross entropy for targets in [0, 1]: centerness, objectness, classes that are as sure as the box is good."""

import torch.nn.functional as F
from torch import Tensor

from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES


@LOSSES.register()
class BinaryCrossEntropyLoss:
    """Binary cross entropy of logits, each on its own."""

    def __init__(self, reduction: Reduction = "mean", loss_weight: float = 1.0) -> None:
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of logits for a target of the same shape, in [0, 1]; the weight broadcasts against both."""
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)
