"""DistributionCriterion: classes that say how good the box is, and boxes as distributions. GFL.

Letters: B images, P priors, C classes, R + 1 bins.
"""

from typing import Protocol

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners import Assignment, DenseScene
from fastdet.models.coders import DistributionBBoxCoder
from fastdet.models.criteria.anchor import BoxLoss
from fastdet.models.criteria.matched import match, num_positive
from fastdet.models.losses.reduction import mean_over_ranks
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


class QualityLoss(Protocol):
    """A loss of class logits [..., C] for labels [...] and qualities [...]."""

    def __call__(
        self, logits: Tensor, labels: Tensor, quality: Tensor, *, weight: Tensor, avg_factor: Tensor
    ) -> Tensor: ...


@CRITERIA.register()
class DistributionCriterion:
    """Class loss towards the box's IoU over the positives; box losses weighted by the present class score.

    Source: Li et al., Generalized Focal Loss, equation 8.

    Args:
        loss_cls: of classes and qualities.
        loss_bbox: of boxes in pixels.
        loss_dfl: of the distributions.
    """

    def __init__(self, loss_cls: QualityLoss, loss_bbox: BoxLoss, loss_dfl: BoxLoss) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.loss_dfl = loss_dfl

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]:
        """The three losses, computed in float32.

        Raises:
            ValueError: boxes are not distributions.
        """
        coder = scene.coder
        if not isinstance(coder, DistributionBBoxCoder):
            raise ValueError(f"the criterion needs a DistributionBBoxCoder, not {type(coder).__name__}")
        with torch.autocast(scene.priors.device.type, enabled=False):
            logits, deltas = scene.output.cls_logits.float(), scene.output.box_deltas.float()
            matched = match(assignment, targets, logits.shape[-1])
            boxes = coder.decode(scene.priors, deltas)
            quality = geometry.paired_overlaps(boxes.detach(), matched.boxes)
            weight = torch.where(matched.positive, logits.detach().amax(-1).sigmoid(), 0.0)
            count = num_positive(matched, "one an image")
            total = mean_over_ranks(weight.sum()).clamp(min=1)
            loss_cls = self.loss_cls(logits, matched.labels, quality, weight=matched.counted.float(), avg_factor=count)
            distances = coder.encode(scene.priors, matched.boxes)  # [B, P, 4]
            return {
                "loss_cls": loss_cls,
                "loss_bbox": self.loss_bbox(boxes, matched.boxes, weight=weight, avg_factor=total),
                "loss_dfl": self.loss_dfl(
                    coder.distributions(deltas), distances, weight=weight[..., None], avg_factor=4 * total
                ),
            }
