"""PlainCriterion: classes everywhere, the numbers of the box at the positives. FoveaBox.

Letters: B images, P priors.
"""

import torch
from torch import Tensor

from fastdet.models.assigners import Assignment, DenseScene
from fastdet.models.criteria.anchor import BoxLoss, ClassLoss
from fastdet.models.criteria.matched import match
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


@CRITERIA.register()
class PlainCriterion:
    """Class loss over the positives and one more an image, loss of box numbers over the positives.

    Source: Kong et al., FoveaBox, section 3.5; the averages are MMDetection's.

    Args:
        loss_cls: of classes.
        loss_bbox: of the numbers that describe a box.
    """

    def __init__(self, loss_cls: ClassLoss, loss_bbox: BoxLoss) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]:
        """The two losses, computed in float32."""
        with torch.autocast(scene.priors.device.type, enabled=False):
            logits, deltas = scene.output.cls_logits.float(), scene.output.box_deltas.float()
            matched = match(assignment, targets, logits.shape[-1])
            count = matched.positive.sum().float()
            wanted = torch.where(matched.positive[..., None], scene.coder.encode(scene.priors, matched.boxes), 0.0)
            weight = matched.positive.float()[..., None].expand_as(deltas)
            return {
                "loss_cls": self.loss_cls(
                    logits, matched.labels, weight=matched.counted.float(), avg_factor=count + len(logits)
                ),
                "loss_bbox": self.loss_bbox(deltas, wanted, weight=weight, avg_factor=count.clamp(min=1)),
            }
