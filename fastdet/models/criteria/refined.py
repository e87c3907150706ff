"""RefinedPointsCriterion: two guesses of a box, each with an assignment of its own. RepPoints.

Letters: B images, P priors, C classes.
"""

import torch
from torch import Tensor

from fastdet.models.assigners import Assignment, DenseScene, MaxIoUAssigner
from fastdet.models.criteria.anchor import BoxLoss, ClassLoss
from fastdet.models.criteria.matched import Matched, match
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


@CRITERIA.register()
class RefinedPointsCriterion:
    """The stage's assignment is for first boxes; these are assigned again for classes and refined boxes.

    Boxes are compared in multiples of the stride. Losses are divided by the positives of their assignment.

    Source: Yang et al., RepPoints, section 4.2.

    Args:
        assigner: of first boxes.
        loss_cls: of classes.
        loss_bbox_init, loss_bbox_refine: of first and refined boxes.
        base_scale: strides that boxes are divided by.
    """

    def __init__(
        self,
        assigner: MaxIoUAssigner,
        loss_cls: ClassLoss,
        loss_bbox_init: BoxLoss,
        loss_bbox_refine: BoxLoss,
        *,
        base_scale: float = 4,
    ) -> None:
        self.assigner = assigner
        self.loss_cls = loss_cls
        self.loss_bbox_init = loss_bbox_init
        self.loss_bbox_refine = loss_bbox_refine
        self.base_scale = base_scale

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]:
        """The three losses, computed in float32.

        Raises:
            ValueError: the head says no first boxes.
        """
        output = scene.output
        if output.first_deltas is None:
            raise ValueError("the criterion needs a head with first guesses of boxes")
        with torch.autocast(scene.priors.device.type, enabled=False):
            logits = output.cls_logits.float()
            said = output.first_deltas, output.box_deltas
            first, refined = (scene.coder.decode(scene.priors, deltas.float()) for deltas in said)
            again = self.assigner(first.detach(), targets, candidates=scene.candidates)
            of_first, of_refined = (match(a, targets, logits.shape[-1]) for a in (assignment, again))
            unit = (scene.priors[:, 2:3] - scene.priors[:, :1]) * self.base_scale  # [P, 1]
            return {
                "loss_cls": self.loss_cls(
                    logits, of_refined.labels, weight=of_refined.counted.float(), avg_factor=_count(of_refined)
                ),
                "loss_pts_init": _compare(self.loss_bbox_init, first, of_first, unit),
                "loss_pts_refine": _compare(self.loss_bbox_refine, refined, of_refined, unit),
            }


def _compare(loss: BoxLoss, boxes: Tensor, matched: Matched, unit: Tensor) -> Tensor:
    weight = matched.positive.float()[..., None].expand_as(boxes)
    return loss(boxes / unit, matched.boxes / unit, weight=weight, avg_factor=_count(matched))


def _count(matched: Matched) -> Tensor:
    """The positives of the batch, at least one an image."""
    return matched.positive.sum(1).clamp(min=1).sum().float()
