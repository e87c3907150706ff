"""Balanced L1 loss of box deltas."""

import math

from torch import Tensor, where

from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES


@LOSSES.register()
class BalancedL1Loss:
    """A smooth L1 whose gradient grows faster at small errors.

    Source: Pang et al., Libra R-CNN, equations 7 to 9.

    Args:
        alpha: how much small errors gain.
        gamma: gradient of large errors.
        beta: error at which the gradient stops to grow.

    Raises:
        ValueError: beta that is not positive.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        gamma: float = 1.5,
        beta: float = 1.0,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        if beta <= 0:
            raise ValueError(f"beta must be positive, not {beta}")
        self.alpha, self.gamma, self.beta = alpha, gamma, beta
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self, values: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of values for a target of the same shape; the weight broadcasts against both."""
        difference = (values - target).abs()
        slope = math.exp(self.gamma / self.alpha) - 1
        small = difference.clamp(max=self.beta)
        inner = self.alpha / slope * (slope * small + 1) * (slope * small / self.beta + 1).log() - self.alpha * small
        outer = self.gamma * difference + self.gamma / slope - self.alpha * self.beta
        loss = where(difference < self.beta, inner, outer)
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)
