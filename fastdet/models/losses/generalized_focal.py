"""The two losses of Generalized Focal Loss: of classes that say how good the box is, and of distances as distributions.

Letters: C classes, R + 1 bins.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES


@LOSSES.register()
class QualityFocalLoss:
    """Binary cross entropy towards the quality of the box at the object's class, and towards 0 at all others.

    Each term is scaled by its error to the power of `beta`.

    Source: Li et al., Generalized Focal Loss, equation 5.

    Args:
        use_sigmoid: must be True.
        beta: exponent of the error.

    Raises:
        ValueError: use_sigmoid is False.
    """

    use_sigmoid: ClassVar[bool] = True

    def __init__(
        self, use_sigmoid: bool = True, beta: float = 2.0, reduction: Reduction = "mean", loss_weight: float = 1.0
    ) -> None:
        if not use_sigmoid:
            raise ValueError("QualityFocalLoss needs use_sigmoid=True")
        self.beta = beta
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        quality: Tensor,
        *,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
    ) -> Tensor:
        """The loss of logits [..., C] for labels [...] (C for background) of quality [...] in [0, 1]."""
        chosen = labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)  # [..., C]
        target = torch.where(chosen, quality[..., None], 0.0)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = (loss * (target - logits.sigmoid()).abs().pow(self.beta)).sum(-1)
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)


@LOSSES.register()
class DistributionFocalLoss:
    """Cross entropy towards the two bins beside the distance, each the more the closer it is.

    Source: Li et al., Generalized Focal Loss, equation 6.
    """

    def __init__(self, reduction: Reduction = "mean", loss_weight: float = 1.0) -> None:
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight

    def __call__(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of logits [..., R + 1] for distances [...] in [0, R), in bins, weighted by [...]."""
        left = target.floor()
        far = target - left
        index = torch.stack((left, left + 1), dim=-1).long()
        entropy = -logits.log_softmax(-1).gather(-1, index)  # [..., 2]
        loss = entropy[..., 0] * (1 - far) + entropy[..., 1] * far
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)
