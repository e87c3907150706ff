"""VarifocalCriterion: classes say how good the refined box is; two boxes weighted by how good they are. VFNet.

Letters: B images, P priors, C classes.
"""

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners import Assignment, DenseScene
from fastdet.models.criteria.anchor import BoxLoss
from fastdet.models.criteria.matched import Matched, match, num_positive
from fastdet.models.losses.reduction import mean_over_ranks
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


@CRITERIA.register()
class VarifocalCriterion:
    """Class loss over the positives, priors without an object all count; box losses over the sum of their IoUs.

    Source: Zhang et al., VarifocalNet, equation 3.

    Args:
        loss_cls: of logits for qualities.
        loss_bbox, loss_bbox_refine: of first and refined boxes in pixels.
    """

    def __init__(self, loss_cls: BoxLoss, loss_bbox: BoxLoss, loss_bbox_refine: BoxLoss) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.loss_bbox_refine = loss_bbox_refine

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
            matched = match(assignment, targets, logits.shape[-1])
            said = output.first_deltas, output.box_deltas
            first, refined = (scene.coder.decode(scene.priors, deltas.float()) for deltas in said)
            loss_bbox, _ = _weighted(self.loss_bbox, first, matched)
            loss_refined, quality = _weighted(self.loss_bbox_refine, refined, matched)
            chosen = matched.labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)
            wanted = torch.where(chosen, quality[..., None], 0.0)  # [B, P, C]
            everywhere = torch.ones_like(quality)[..., None]
            count = num_positive(matched, "one a batch")
            return {
                "loss_cls": self.loss_cls(logits, wanted, weight=everywhere, avg_factor=count),
                "loss_bbox": loss_bbox,
                "loss_bbox_rf": loss_refined,
            }


def _weighted(loss: BoxLoss, boxes: Tensor, matched: Matched) -> tuple[Tensor, Tensor]:
    """The loss of boxes weighted by their IoUs, and these: [B, P], 0 without an object."""
    overlaps = geometry.paired_overlaps(boxes.detach(), matched.boxes).clamp(min=1e-6)
    quality = torch.where(matched.positive, overlaps, 0.0)
    total = mean_over_ranks(quality.sum()).clamp(min=1)
    return loss(boxes, matched.boxes, weight=quality, avg_factor=total), quality
