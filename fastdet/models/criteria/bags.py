"""BagCriterion: an object has a bag of anchors, of which some must say it well. FreeAnchor.

Letters: B images, P anchors, C classes, m object slots (a slice of M), K anchors of a bag.
"""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners import Assignment, DenseScene
from fastdet.models.losses import L1Loss, SmoothL1Loss
from fastdet.registry import CRITERIA
from fastdet.structures import Targets

_LEAST = 1e-12


class Bags(NamedTuple):
    """What a slice of the objects has to do with the anchors."""

    likelihood: Tensor  # [B, m] of each object, by the anchors of its bag
    box_probability: Tensor  # [B, P, C] that an anchor's box is an object of the class


@CRITERIA.register()
class BagCriterion:
    """Losses of an image's objects by their likelihood, and of all anchors where no box is an object.

    The assignment is not looked at.

    Source: Zhang et al., FreeAnchor, equations 5 to 8.

    Args:
        loss_bbox: of deltas; a box's probability is the exponential of its negative.
        pre_anchor_topk: K, by IoU with the object.
        bbox_thr: boxes of a lower IoU are surely no object, the best one surely is.
        gamma: exponent of the wrong probability of the background.
        alpha: weight of the objects; the background has 1 - alpha.
    """

    def __init__(
        self,
        loss_bbox: L1Loss | SmoothL1Loss,
        *,
        pre_anchor_topk: int = 50,
        bbox_thr: float = 0.6,
        gamma: float = 2.0,
        alpha: float = 0.5,
    ) -> None:
        self.loss_bbox = copy.copy(loss_bbox)
        self.loss_bbox.reduction = "none"
        self.pre_anchor_topk = pre_anchor_topk
        self.bbox_thr = bbox_thr
        self.gamma = gamma
        self.alpha = alpha

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]:
        """The two losses, computed in float32."""
        with torch.autocast(scene.priors.device.type, enabled=False):
            probability, deltas = scene.output.cls_logits.float().sigmoid(), scene.output.box_deltas.float()
            with torch.no_grad():
                boxes = scene.coder.decode(scene.priors, deltas)
            is_object = torch.zeros_like(probability)
            positive = deltas.sum() * 0
            for start, stop in geometry.slot_slices(targets.boxes.shape[1], boxes[..., 0].numel()):
                valid = targets.valid[:, start:stop]
                bags = self._bags(scene, targets, (start, stop), probability, boxes)
                entropy = F.binary_cross_entropy(bags.likelihood, torch.ones_like(bags.likelihood), reduction="none")
                positive = positive + self.alpha * torch.where(valid, entropy, 0.0).sum()
                is_object = torch.maximum(is_object, bags.box_probability)
            wrong = (probability * (1 - is_object)).clamp(_LEAST, 1 - _LEAST)
            entropy = F.binary_cross_entropy(wrong, torch.zeros_like(wrong), reduction="none")
            negative = (1 - self.alpha) * (wrong.pow(self.gamma) * entropy).sum()
            count = targets.count.sum()
            return {
                "positive_bag_loss": positive / count.clamp(min=1),
                "negative_bag_loss": negative / (count * self.pre_anchor_topk).clamp(min=1),
            }

    def _bags(
        self, scene: DenseScene, targets: Targets, part: tuple[int, int], probability: Tensor, boxes: Tensor
    ) -> Bags:
        """Likelihoods and box probabilities of the slots of the part, by class probabilities and boxes of anchors."""
        objects, labels = (v[:, part[0] : part[1]] for v in (targets.boxes, targets.labels))
        valid = targets.valid[:, part[0] : part[1], None]
        with torch.no_grad():
            overlaps = geometry.overlaps(objects, boxes)  # [B, m, P]
            highest = overlaps.amax(2, keepdim=True).clamp(min=self.bbox_thr + _LEAST)
            sure = ((overlaps - self.bbox_thr) / (highest - self.bbox_thr)).clamp(0, 1)
            index = labels[:, None].expand(-1, boxes.shape[1], -1)  # [B, P, m]
            sure = torch.where(valid, sure, 0.0).transpose(1, 2)
            box_probability = torch.zeros_like(probability).scatter_reduce(2, index, sure, "amax")
            number = min(self.pre_anchor_topk, boxes.shape[1])
            bag = geometry.overlaps(objects, scene.priors).topk(number, dim=2, sorted=False).indices  # [B, m, K]
        rows = bag.flatten(1)[..., None]
        own = probability.gather(1, rows.expand(-1, -1, probability.shape[-1])).unflatten(1, bag.shape[1:])
        own = own.gather(3, labels[..., None, None].expand(*bag.shape, 1))[..., 0]  # [B, m, K]
        said = scene.output.box_deltas.float().gather(1, rows.expand(-1, -1, 4)).unflatten(1, bag.shape[1:])
        wanted = scene.coder.encode(scene.priors[bag], objects[:, :, None].expand_as(said))
        wanted = torch.where(valid[..., None], wanted, 0.0)
        matched = own * (-self.loss_bbox(said, wanted).sum(-1)).exp()
        weight = 1 / (1 - matched).clamp(min=_LEAST)
        return Bags((weight * matched).sum(2) / weight.sum(2), box_probability)
