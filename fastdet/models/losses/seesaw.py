"""Seesaw loss: rare classes are punished less for the many objects of frequent ones.

Letters: N elements (leading dimensions), C classes.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.losses.reduction import Reduction, reduce_loss
from fastdet.registry import LOSSES


@LOSSES.register()
class SeesawLoss(nn.Module):
    """Cross entropy of objects over the classes, with the other classes' shares scaled, and one of object against none.

    The logits are those of C classes, then of "object" and "background". A wrong class's share is scaled down where
    it has had fewer objects than the right one (mitigation), and up where it is likelier than it (compensation).

    Key: cum_samples, the objects (and the background's elements) seen so far. A detector keeps it in its head.

    Source: Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, sections 3.2 to 3.4.

    Args:
        num_classes: C.
        p, q: exponents of mitigation and compensation; 0 turns them off.
        eps: least probability of the right class in the compensation.
    """

    use_sigmoid: ClassVar[bool] = False
    objectness: ClassVar[bool] = True
    cum_samples: Tensor

    def __init__(
        self,
        *,
        p: float = 0.8,
        q: float = 2.0,
        num_classes: int = 1203,
        eps: float = 1e-2,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.p, self.q, self.eps = p, q, eps
        self.num_classes = num_classes
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight
        self.register_buffer("cum_samples", torch.zeros(num_classes + 1))

    def forward(
        self, logits: Tensor, labels: Tensor, *, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> dict[str, Tensor]:
        """`loss_cls_objectness` and `loss_cls_classes`, and the shares of right ones in percent.

        Args:
            logits: [..., C + 2].
            labels: [...] in [0, C], C for the background.
            weight: [...]; elements of weight 0 are not seen at all.
        """
        logits, labels = logits.flatten(0, -2), labels.flatten()
        weight = torch.ones_like(labels, dtype=torch.float32) if weight is None else weight.flatten().float()
        is_object, counted = labels < self.num_classes, weight > 0
        with torch.no_grad():
            self.cum_samples.scatter_add_(0, labels, counted.to(self.cum_samples.dtype))
        classes, objectness = logits[:, :-2], logits[:, -2:]
        labels = torch.where(is_object, labels, 0)
        wanted = (~is_object).long()
        of_classes = F.cross_entropy(classes + self._scales(classes, labels), labels, reduction="none")
        of_objects = F.cross_entropy(objectness, wanted, reduction="none")
        positive = is_object & counted
        return {
            "loss_cls_objectness": self._reduced(of_objects, weight, avg_factor),
            "loss_cls_classes": self._reduced(of_classes, weight * is_object, avg_factor),
            "acc_objectness": _share(objectness.argmax(1) == wanted, counted),
            "acc_classes": _share(classes.argmax(1) == labels, positive),
        }

    @torch.no_grad()
    def _scales(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logarithms of the scales of all classes [N, C]; 0 for the right one."""
        scales = torch.zeros_like(logits)
        if self.p > 0:
            seen = self.cum_samples[: self.num_classes].clamp(min=1).to(logits.dtype)
            scales = scales + self.p * (seen / seen[labels][:, None]).clamp(max=1).log()
        if self.q > 0:
            shares = logits.softmax(dim=1)
            right = shares.gather(1, labels[:, None]).clamp(min=self.eps)
            scales = scales + self.q * (shares / right).clamp(min=1).log()
        return scales.scatter(1, labels[:, None], 0.0)

    def _reduced(self, loss: Tensor, weight: Tensor, avg_factor: Tensor | float | None) -> Tensor:
        return self.loss_weight * reduce_loss(loss, weight=weight, reduction=self.reduction, avg_factor=avg_factor)


def _share(right: Tensor, counted: Tensor) -> Tensor:
    return (right & counted).sum() * 100.0 / counted.sum().clamp(min=1)
