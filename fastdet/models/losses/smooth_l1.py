"""L1 and smooth L1 losses of box deltas."""

from torch import Tensor, where

from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES


@LOSSES.register()
class L1Loss:
    """Absolute differences."""

    def __init__(self, reduction: Reduction = "mean", loss_weight: float = 1.0) -> None:
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self, values: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of values for a target of the same shape; the weight broadcasts against both."""
        loss = (values - target).abs()
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)


@LOSSES.register()
class SmoothL1Loss:
    """Absolute differences, quadratic below `beta`.

    Source: Girshick, Fast R-CNN, equation 3, with the bend at beta.
    """

    def __init__(self, beta: float = 1.0, reduction: Reduction = "mean", loss_weight: float = 1.0) -> None:
        if beta <= 0:
            raise ValueError(f"beta must be positive, not {beta}: use L1Loss for beta = 0")
        self.beta: float | Tensor = beta  # a tensor [] where it follows the training
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self, values: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of values for a target of the same shape; the weight broadcasts against both."""
        difference = (values - target).abs()
        loss = where(difference < self.beta, 0.5 * difference * difference / self.beta, difference - 0.5 * self.beta)
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)
