"""ProbabilisticCriterion: of the priors that overlap an object, those of low loss are its positives. PAA.

Letters: B images, P priors, C classes, m object slots (a slice of M), K candidates of an object.
"""

import copy

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners import Assignment, DenseScene
from fastdet.models.criteria.anchor import BoxLoss
from fastdet.models.criteria.matched import Matched, match
from fastdet.models.criteria.mixture import low_costs
from fastdet.models.losses import FocalLoss, OverlapLoss
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


@CRITERIA.register()
class ProbabilisticCriterion:
    """The stage's assignment says candidates; their present loss decides which of them become positives.

    The others are background. The head's quality learns the IoU, by which the box loss is weighted.

    Source: Kim and Lee, Probabilistic Anchor Assignment, section 3.

    Args:
        loss_cls: of classes.
        loss_bbox: of boxes in pixels.
        loss_iou: of quality logits.
        topk: candidates of an object on each level.
    """

    def __init__(self, loss_cls: FocalLoss, loss_bbox: OverlapLoss, loss_iou: BoxLoss, *, topk: int = 9) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.loss_iou = loss_iou
        self.topk = topk
        self._each_cls, self._each_bbox = copy.copy(loss_cls), copy.copy(loss_bbox)
        self._each_cls.reduction = self._each_bbox.reduction = "none"

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]:
        """The three losses, computed in float32.

        Raises:
            ValueError: the head says no quality.
        """
        if scene.output.quality is None:
            raise ValueError("the criterion needs a head with a quality")
        with torch.autocast(scene.priors.device.type, enabled=False):
            logits, quality = scene.output.cls_logits.float(), scene.output.quality.float()
            matched = match(assignment, targets, logits.shape[-1])
            boxes = scene.coder.decode(scene.priors, scene.output.box_deltas.float())
            positive = self._separate(scene, assignment, matched, logits, boxes, targets.boxes.shape[1])
            labels = torch.where(positive, matched.labels, logits.shape[-1])
            overlaps = torch.where(positive, geometry.paired_overlaps(boxes.detach(), matched.boxes), 0.0)
            weight = torch.where(positive, overlaps.clamp(min=1e-12), 0.0)
            count = positive.sum().float()
            return {
                "loss_cls": self.loss_cls(
                    logits, labels, weight=matched.counted.float(), avg_factor=count.clamp(min=len(logits))
                ),
                "loss_bbox": self.loss_bbox(boxes, matched.boxes, weight=weight, avg_factor=overlaps.sum()),
                "loss_iou": self.loss_iou(quality, overlaps, weight=positive.float(), avg_factor=count.clamp(min=1)),
            }

    @torch.no_grad()
    def _separate(
        self,
        scene: DenseScene,
        assignment: Assignment,
        matched: Matched,
        logits: Tensor,
        boxes: Tensor,
        num_slots: int,
    ) -> Tensor:
        """The candidates of low loss: bool [B, P]."""
        candidate = matched.positive.float()
        cost = self._each_cls(logits, matched.labels, weight=candidate).sum(-1)
        cost = cost + self._each_bbox(boxes, matched.boxes, weight=candidate)  # [B, P]
        positive = torch.zeros_like(matched.positive)
        for start, stop in geometry.slot_slices(num_slots, cost.numel()):
            slots = torch.arange(start, stop, device=cost.device)
            own = torch.where(assignment.gt_index[:, None] == slots[:, None], cost[:, None], torch.inf)  # [B, m, P]
            lowest, index = self._lowest(own, scene.output.level_lengths)
            low = low_costs(lowest.flatten(0, 1)).view_as(index)
            positive |= torch.zeros_like(own, dtype=torch.bool).scatter(2, index, low).any(1)
        return positive

    def _lowest(self, cost: Tensor, level_lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The lowest costs of each level, of all levels ascending, and their priors: [B, m, K] of [B, m, P]."""
        values, index, start = [], [], 0
        for level in cost.split(level_lengths, dim=2):
            found = level.topk(min(self.topk, level.shape[2]), dim=2, largest=False)
            values.append(found.values)
            index.append(found.indices + start)
            start += level.shape[2]
        ascending, order = torch.cat(values, dim=2).sort(dim=2)
        return ascending, torch.cat(index, dim=2).gather(2, order)
