"""TaskAlignedCriterion: first fixed positives, later those that are aligned best. TOOD.

Letters: B images, P priors, C classes.
"""

import torch
from torch import Tensor

from fastdet.models.assigners import Assignment, DenseAssigner, DenseScene
from fastdet.models.criteria.anchor import BoxLoss, ClassLoss
from fastdet.models.criteria.centerness import centerness
from fastdet.models.criteria.distribution import QualityLoss
from fastdet.models.criteria.matched import match
from fastdet.models.losses.reduction import mean_over_ranks
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


@CRITERIA.register()
class TaskAlignedCriterion:
    """Classes learn how well a prior is aligned, by which boxes are weighted; both over the sum of it.

    In the first epochs positives are another assigner's, all of equal worth, and boxes are weighted by centerness. The
    assignment of the stage is not looked at.

    Source: Feng et al., TOOD, section 3.2, equations 7 to 9; the first epochs as in MMDetection.

    Args:
        initial_assigner, assigner: of the first epochs, and of the others.
        initial_loss_cls, loss_cls: of classes, likewise.
        loss_bbox: of boxes in pixels.
        initial_epoch: how many epochs are the first; `start_epoch` says which one it is.
    """

    def __init__(
        self,
        initial_assigner: DenseAssigner,
        assigner: DenseAssigner,
        initial_loss_cls: ClassLoss,
        loss_cls: QualityLoss,
        loss_bbox: BoxLoss,
        *,
        initial_epoch: int,
    ) -> None:
        self.initial_assigner = initial_assigner
        self.assigner = assigner
        self.initial_loss_cls = initial_loss_cls
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.initial_epoch = initial_epoch
        self._is_initial = initial_epoch > 0

    def start_epoch(self, epoch: int) -> None:
        """Says which epoch begins, counted from 0."""
        self._is_initial = epoch < self.initial_epoch

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]:
        """The two losses, computed in float32."""
        with torch.autocast(scene.priors.device.type, enabled=False):
            logits = scene.output.cls_logits.float()
            assignment = (self.initial_assigner if self._is_initial else self.assigner)(scene, targets)
            matched = match(assignment, targets, logits.shape[-1])
            counted = matched.counted.float()
            if self._is_initial:
                weight, count = centerness(scene.priors, matched), _sum(matched.positive.float())
                loss_cls = self.initial_loss_cls(logits, matched.labels, weight=counted, avg_factor=count)
            else:
                weight = torch.where(matched.positive, assignment.overlaps, 0.0)
                loss_cls = self.loss_cls(logits, matched.labels, weight, weight=counted, avg_factor=_sum(weight))
            boxes = scene.coder.decode(scene.priors, scene.output.box_deltas.float())
            loss_bbox = self.loss_bbox(boxes, matched.boxes, weight=weight, avg_factor=_sum(weight))
            return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}


def _sum(values: Tensor) -> Tensor:
    return mean_over_ranks(values.sum()).clamp(min=1)
