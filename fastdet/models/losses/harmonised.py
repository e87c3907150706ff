"""Gradient harmonised losses: where many elements have gradients of one length, each counts less.

Letters: C classes.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.losses.reduction import reduce_loss
from fastdet.registry import LOSSES


class Harmoniser(nn.Module):
    """Weights of elements by how many others have a gradient of about their length.

    Keys: edges, and acc_sum with momentum. A detector keeps these in its head, as MMDetection does.

    Source: Li et al., Gradient Harmonized Single-stage Detector, equations 4 to 9 (unit regions, moving average).

    Args:
        bins: unit regions of gradient lengths in [0, 1].
        momentum: of the moving average of their numbers; 0: none is kept.
        last_edge: upper end of the last region.
    """

    edges: Tensor
    acc_sum: Tensor

    def __init__(self, bins: int, momentum: float, last_edge: float) -> None:
        super().__init__()
        edges = torch.arange(bins + 1, dtype=torch.float32) / bins
        edges[-1] = last_edge
        self.register_buffer("edges", edges)
        self.momentum = momentum
        if momentum > 0:
            self.register_buffer("acc_sum", torch.zeros(bins))

    @torch.no_grad()
    def weights(self, lengths: Tensor, counted: Tensor, total: Tensor) -> Tensor:
        """Weights [...] of elements with gradient lengths [...]; 0 where they do not count.

        Args:
            counted: which elements count, bool [...].
            total: what an even spread would sum to.
        """
        bins = len(self.edges) - 1
        index = torch.bucketize(lengths, self.edges, right=True, out_int32=True) - 1
        index = torch.where(counted & (index < bins), index, bins)
        numbers = torch.stack([(index == i).sum() for i in range(bins)]).float()
        present = numbers > 0
        density = numbers
        if self.momentum > 0:
            mixed = self.momentum * self.acc_sum + (1 - self.momentum) * numbers
            density = torch.where(present, mixed, self.acc_sum)
            self.acc_sum.copy_(density)
        weight = torch.where(present, total / density, 0.0) / present.sum().clamp(min=1)
        return F.pad(weight, (0, 1))[index]


@LOSSES.register()
class GHMC(Harmoniser):
    """Binary cross entropy of each class, harmonised; averaged over all elements that count.

    Source: Li et al., Gradient Harmonized Single-stage Detector, equation 10.

    Args:
        use_sigmoid: must be True.

    Raises:
        ValueError: use_sigmoid is False.
    """

    use_sigmoid: ClassVar[bool] = True

    def __init__(self, bins: int = 10, momentum: float = 0, use_sigmoid: bool = True, loss_weight: float = 1.0) -> None:
        if not use_sigmoid:
            raise ValueError("GHMC needs use_sigmoid=True")
        super().__init__(bins, momentum, 1 + 1e-6)
        self.loss_weight = loss_weight

    def forward(
        self, logits: Tensor, labels: Tensor, *, weight: Tensor, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of logits [..., C] for labels [...], C for background; the average of others is not looked at."""
        target = labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)
        counted = (weight > 0)[..., None].expand_as(logits)
        total = counted.sum().float().clamp(min=1)
        lengths = (logits.detach().sigmoid() - target.float()).abs()
        loss = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
        return self.loss_weight * reduce_loss(loss, weight=self.weights(lengths, counted, total), avg_factor=total)


@LOSSES.register()
class GHMR(Harmoniser):
    """A smooth L1 of deltas, harmonised; averaged over all elements that count.

    Source: Li et al., Gradient Harmonized Single-stage Detector, equations 11 to 14.

    Args:
        mu: how round the loss is at 0.
    """

    def __init__(self, mu: float = 0.02, bins: int = 10, momentum: float = 0, loss_weight: float = 1.0) -> None:
        super().__init__(bins, momentum, 1e3)
        self.mu = mu
        self.loss_weight = loss_weight

    def forward(
        self, values: Tensor, target: Tensor, *, weight: Tensor, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of values for a target of the same shape; the average of others is not looked at."""
        weight = weight.expand_as(values)
        difference = values - target
        length = (difference * difference + self.mu * self.mu).sqrt()
        total = weight.sum().clamp(min=1)
        weights = self.weights((difference.detach() / length.detach()).abs(), weight > 0, total)
        return self.loss_weight * reduce_loss(length - self.mu, weight=weights, avg_factor=total)
