"""CenternessCriterion: classes everywhere, boxes and their centerness at the positives. FCOS and ATSS.

Letters: B images, P priors, C classes.
"""

from typing import Literal

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners import Assignment, DenseScene
from fastdet.models.criteria.anchor import BoxLoss, ClassLoss
from fastdet.models.criteria.matched import Matched, match, num_positive
from fastdet.models.losses.reduction import mean_over_ranks
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


@CRITERIA.register()
class CenternessCriterion:
    """Class and centerness losses over the number of positives; box loss weighted by the wanted centerness.

    Source: Tian et al., FCOS, equations 2 and 3.

    Args:
        loss_cls: of classes.
        loss_bbox: of boxes in pixels.
        loss_centerness: of centerness logits.
        at_least: a batch has at least one positive, or every image has.
        min_centerness: least sum of wanted centerness to divide by.
    """

    def __init__(
        self,
        loss_cls: ClassLoss,
        loss_bbox: BoxLoss,
        loss_centerness: BoxLoss,
        *,
        at_least: Literal["one a batch", "one an image"] = "one an image",
        min_centerness: float = 1.0,
    ) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.loss_centerness = loss_centerness
        self.at_least = at_least
        self.min_centerness = min_centerness

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]:
        """The three losses, computed in float32.

        Raises:
            ValueError: the head says no centerness.
        """
        if scene.output.quality is None:
            raise ValueError("the criterion needs a head with centerness")
        with torch.autocast(scene.priors.device.type, enabled=False):
            logits, deltas = scene.output.cls_logits.float(), scene.output.box_deltas.float()
            matched = match(assignment, targets, logits.shape[-1])
            wanted = centerness(scene.priors, matched)
            count = num_positive(matched, self.at_least)
            total = mean_over_ranks(wanted.sum()).clamp(min=self.min_centerness)
            boxes = scene.coder.decode(scene.priors, deltas)
            positive = matched.positive.float()
            return {
                "loss_cls": self.loss_cls(logits, matched.labels, weight=matched.counted.float(), avg_factor=count),
                "loss_bbox": self.loss_bbox(boxes, matched.boxes, weight=wanted, avg_factor=total),
                "loss_centerness": self.loss_centerness(
                    scene.output.quality.float(), wanted, weight=positive, avg_factor=count
                ),
            }


@torch.no_grad()
def centerness(priors: Tensor, matched: Matched) -> Tensor:
    """How central the priors [P, 4] lie in their objects, [B, P] in [0, 1]; 0 where there is no object.

    Source: Tian et al., FCOS, equation 3.
    """
    points = geometry.centers(priors).expand(*matched.labels.shape, 2)
    left, top, right, bottom = geometry.sides_from(points, matched.boxes).unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return torch.where(matched.positive, across * down, 0.0).sqrt()
