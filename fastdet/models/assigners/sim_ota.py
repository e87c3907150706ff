"""Assignment by what the head predicts: each object takes as many of its cheapest priors as it overlaps with well.

Letters: B images, P priors, M object slots, C classes, K candidates of an object.
"""

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners.assignment import BACKGROUND, IGNORE, Assignment
from fastdet.models.assigners.scene import DenseScene
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets

_OUTSIDE = 100000.0  # cost of a prior outside the object or its centre region: taken after all others
_LEAST_LOG = -100.0  # logarithms of probabilities end here, as in torch's binary cross entropy


@ASSIGNERS.register()
class SimOTAAssigner:
    """Objects take the priors of least cost, as many as the sum of their largest IoUs; priors keep their cheapest.

    The cost is the binary cross entropy of the classes and -log IoU of the boxes. Looked at are priors in any object or
    in its centre region; those that are not in both for the object itself come last.

    Source: Ge et al., YOLOX, section 2.1; Ge et al., OTA, section 3.3 (dynamic k).

    Args:
        center_radius: half a side of the centre region, in strides.
        candidate_topk: K, the most priors an object can take.
        iou_weight, cls_weight: of the two costs.
    """

    def __init__(
        self,
        center_radius: float = 2.5,
        candidate_topk: int = 10,
        iou_weight: float = 3.0,
        cls_weight: float = 1.0,
    ) -> None:
        self.center_radius = center_radius
        self.candidate_topk = candidate_topk
        self.iou_weight = iou_weight
        self.cls_weight = cls_weight

    @torch.no_grad()
    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment:
        """The object of each prior, and the IoU of the predicted box with it (0 for the background)."""
        shape = (scene.batch, len(scene.priors))
        background = torch.full(shape, BACKGROUND, dtype=torch.int64, device=scene.priors.device)
        if targets.boxes.shape[1] == 0 or shape[1] == 0:
            return Assignment(background, torch.zeros(shape, device=scene.priors.device))
        with torch.autocast(scene.priors.device.type, enabled=False):
            boxes = scene.coder.decode(scene.priors, scene.output.box_deltas.float())
            overlaps = geometry.overlaps(targets.boxes, boxes)  # [B, M, P]
            inside, near = self._regions(scene, targets)
            looked_at = (inside | near).any(1, keepdim=True)  # [B, 1, P]
            if scene.candidates is not None:
                looked_at = looked_at & scene.candidates[:, None]
            cost = self.cls_weight * _class_cost(scene, targets) - self.iou_weight * (overlaps + 1e-8).log()
            cost = cost + torch.where(inside & near, 0.0, _OUTSIDE)
            cost = torch.where(looked_at & targets.valid[..., None], cost, torch.inf)
        overlaps = torch.where(looked_at, overlaps, 0.0)
        taken = self._cheapest(cost, overlaps)  # [B, M, P]
        wishes = taken.sum(1)  # [B, P]
        slot = torch.where(wishes > 1, cost.argmin(1), taken.int().argmax(1))
        gt_index = torch.where(wishes > 0, slot, background)
        overlap = torch.where(wishes > 0, overlaps.gather(1, slot[:, None])[:, 0], 0.0)
        if scene.candidates is not None:
            gt_index = gt_index.masked_fill(~scene.candidates, IGNORE)
        return Assignment(gt_index, overlap)

    def _regions(self, scene: DenseScene, targets: Targets) -> tuple[Tensor, Tensor]:
        """Priors whose centre lies in each object, and in its centre region: bool [B, M, P] each."""
        points = geometry.centers(scene.priors)  # [P, 2]
        reach = (scene.priors[:, 2:] - scene.priors[:, :2]) * self.center_radius
        boxes = targets.boxes[:, :, None]  # [B, M, 1, 4]
        center = geometry.centers(boxes)
        inside = ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all(-1)
        near = ((points - (center - reach) > 0) & (center + reach - points > 0)).all(-1)
        valid = targets.valid[..., None]
        return inside & valid, near & valid

    def _cheapest(self, cost: Tensor, overlaps: Tensor) -> Tensor:
        """The priors that each object takes, by cost [B, M, P]: bool [B, M, P]."""
        room = min(self.candidate_topk, cost.shape[2])
        number = overlaps.topk(room, dim=2).values.sum(2, keepdim=True).int().clamp(min=1)
        lowest, index = cost.topk(room, dim=2, largest=False, sorted=True)
        chosen = (torch.arange(room, device=cost.device) < number) & lowest.isfinite()
        return torch.zeros_like(cost, dtype=torch.bool).scatter(2, index, chosen)


def _class_cost(scene: DenseScene, targets: Targets) -> Tensor:
    """Binary cross entropy of each prior's classes, if it answered for each object: [B, M, P]."""
    scores = scene.output.cls_logits.float().sigmoid()
    if scene.output.quality is not None:
        scores = (scores * scene.output.quality.float().sigmoid()[..., None]).sqrt()
    present, absent = scores.log().clamp(min=_LEAST_LOG), (1 - scores).log().clamp(min=_LEAST_LOG)  # [B, P, C]
    classes = targets.labels[:, None].expand(-1, scores.shape[1], -1)  # [B, P, M]
    change = absent.gather(2, classes) - present.gather(2, classes)
    return (change - absent.sum(2, keepdim=True)).transpose(1, 2)
