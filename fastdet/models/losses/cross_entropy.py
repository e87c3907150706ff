"""Cross entropy over classes, per class, and for masks.

Letters: N elements (leading dimensions), C classes.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES


class SoftmaxLoss:
    """Softmax cross entropy; the background is the last class.

    Args:
        class_weight: a factor for each class, the background included.
        ignore_index: a label whose elements give no loss.
        avg_non_ignore: without avg_factor, average over the elements that are not ignored.
    """

    use_sigmoid: ClassVar[bool] = False

    def __init__(
        self,
        *,
        reduction: Reduction = "mean",
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
    ) -> None:
        self.reduction: Reduction = reduction
        self.class_weight = class_weight
        self.ignore_index = -100 if ignore_index is None else ignore_index
        self.loss_weight = loss_weight
        self.avg_non_ignore = avg_non_ignore

    def __call__(
        self, logits: Tensor, labels: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of logits [..., C] for labels [...] in [0, C), weighted by [...]."""
        flat = labels.reshape(-1)
        class_weight = None if self.class_weight is None else logits.new_tensor(self.class_weight)
        loss = F.cross_entropy(
            logits.reshape(-1, logits.shape[-1]),
            flat,
            weight=class_weight,
            reduction="none",
            ignore_index=self.ignore_index,
        )
        if avg_factor is None and self.avg_non_ignore and self.reduction == "mean":
            avg_factor = (flat != self.ignore_index).sum()
        weight = None if weight is None else weight.reshape(-1).float()
        loss = self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)
        return loss.reshape(labels.shape) if self.reduction == "none" else loss


class SigmoidLoss:
    """Binary cross entropy of every class on its own; the background has no channel.

    Args:
        class_weight: a factor of the positive term of each class.
        ignore_index: a label whose elements give no loss; negative labels never do.
        avg_non_ignore: without avg_factor, average over the elements that are not ignored.
    """

    use_sigmoid: ClassVar[bool] = True

    def __init__(
        self,
        *,
        reduction: Reduction = "mean",
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
    ) -> None:
        self.reduction: Reduction = reduction
        self.class_weight = class_weight
        self.ignore_index = -100 if ignore_index is None else ignore_index
        self.loss_weight = loss_weight
        self.avg_non_ignore = avg_non_ignore

    def __call__(
        self, logits: Tensor, labels: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The loss of logits [..., C] for labels [...], C or more for background, weighted by [...]."""
        classes = torch.arange(logits.shape[-1], device=logits.device)
        target = (labels[..., None] == classes).to(logits.dtype)  # [..., C]
        counted = ((labels >= 0) & (labels != self.ignore_index))[..., None].expand_as(logits)
        class_weight = None if self.class_weight is None else logits.new_tensor(self.class_weight)
        loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=class_weight, reduction="none")
        if avg_factor is None and self.avg_non_ignore and self.reduction == "mean":
            avg_factor = counted.sum()
        factor = counted.float() if weight is None else weight.float()[..., None] * counted
        return self.loss_weight * reduce_loss(loss, weight=factor, reduction=self.reduction, avg_factor=avg_factor)


class MaskLoss:
    """Binary cross entropy of instance masks, averaged over instances and pixels."""

    use_sigmoid: ClassVar[bool] = True

    def __init__(self, *, loss_weight: float = 1.0) -> None:
        self.loss_weight = loss_weight

    def __call__(self, logits: Tensor, target: Tensor, labels: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """The loss of mask logits.

        Args:
            logits: [N, C, h, w], or [N, 1, h, w] for masks without classes.
            target: [N, h, w] in [0, 1].
            labels: [N] channel of each instance; not looked at where there is one channel.
            weight: [N]; instances of weight 0 (padded slots) count nowhere, neither in the sum nor in the average.

        Returns:
            0 if no instance counts.
        """
        channel = labels if logits.shape[1] > 1 else torch.zeros_like(labels)
        chosen = logits.gather(1, channel[:, None, None, None].expand(-1, 1, *logits.shape[2:]))[:, 0]  # [N, h, w]
        loss = F.binary_cross_entropy_with_logits(chosen, target.to(chosen.dtype), reduction="none").mean((1, 2))
        if weight is None:
            return self.loss_weight * loss.mean()
        total = torch.where(weight == 0, 0.0, loss * weight).sum()
        return self.loss_weight * total / weight.sum().clamp(min=1)


@LOSSES.register("CrossEntropyLoss")
def cross_entropy_loss(
    use_sigmoid: bool = False,
    use_mask: bool = False,
    reduction: Reduction = "mean",
    class_weight: Sequence[float] | None = None,
    ignore_index: int | None = None,
    loss_weight: float = 1.0,
    avg_non_ignore: bool = False,
) -> SoftmaxLoss | SigmoidLoss | MaskLoss:
    """The loss that MMDetection's name and flags stand for.

    Raises:
        ValueError: use_sigmoid together with use_mask; a mask loss that is not a plain mean.
    """
    if not use_mask:
        kind = SigmoidLoss if use_sigmoid else SoftmaxLoss
        return kind(
            reduction=reduction,
            class_weight=class_weight,
            ignore_index=ignore_index,
            loss_weight=loss_weight,
            avg_non_ignore=avg_non_ignore,
        )
    if use_sigmoid:
        raise ValueError("CrossEntropyLoss takes use_sigmoid or use_mask, not both")
    if reduction != "mean" or class_weight is not None or ignore_index is not None:
        raise ValueError(
            "CrossEntropyLoss(use_mask=True) averages over all pixels: leave out reduction, "
            "class_weight and ignore_index"
        )
    return MaskLoss(loss_weight=loss_weight)
