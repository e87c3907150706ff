"""Squared differences."""

from torch import Tensor

from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES


@LOSSES.register()
class MSELoss:
    """Squared differences."""

    def __init__(self, reduction: Reduction = "mean", loss_weight: float = 1.0) -> None:
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self, values: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of values for a target of the same shape; the weight broadcasts against both."""
        loss = (values - target).square()
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)
