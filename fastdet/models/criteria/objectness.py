"""ObjectnessCriterion: objectness everywhere, classes and boxes at the positives. YOLOX.

Letters: B images, P priors, C classes.
"""

from typing import Protocol

import torch
from torch import Tensor

from fastdet.models.assigners import Assignment, DenseScene
from fastdet.models.criteria.matched import match, num_positive
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


class SummedLoss(Protocol):
    """A loss of values for a target of the same shape, summed over both (reduction "sum")."""

    def __call__(self, values: Tensor, target: Tensor, *, weight: Tensor) -> Tensor: ...


@CRITERIA.register()
class ObjectnessCriterion:
    """Sums over the number of positives; classes are as sure as the predicted box overlaps.

    Source: Ge et al., YOLOX, section 2.1.

    Args: (all of them sums)
        loss_cls, loss_obj: of logits towards targets in [0, 1].
        loss_bbox: of boxes in pixels.
        loss_l1: of deltas; counts while `use_l1` is set, which YOLOX does for its last epochs.
    """

    def __init__(self, loss_cls: SummedLoss, loss_bbox: SummedLoss, loss_obj: SummedLoss, loss_l1: SummedLoss) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.loss_obj = loss_obj
        self.loss_l1 = loss_l1
        self.use_l1 = False

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]:
        """The losses, computed in float32.

        Raises:
            ValueError: the head says no objectness.
        """
        output = scene.output
        if output.quality is None:
            raise ValueError("the criterion needs a head with objectness")
        with torch.autocast(scene.priors.device.type, enabled=False):
            logits, deltas = output.cls_logits.float(), output.box_deltas.float()
            matched = match(assignment, targets, logits.shape[-1])
            count = num_positive(matched, "one a batch")
            positive = matched.positive.float()
            chosen = matched.labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)
            sure = torch.where(chosen, assignment.overlaps[..., None], 0.0)  # [B, P, C]
            boxes = scene.coder.decode(scene.priors, deltas)
            every = matched.counted.float()
            losses = {
                "loss_cls": self.loss_cls(logits, sure, weight=positive[..., None]),
                "loss_bbox": self.loss_bbox(boxes, matched.boxes, weight=positive),
                "loss_obj": self.loss_obj(output.quality.float(), positive, weight=every),
            }
            if self.use_l1:
                wanted = scene.coder.encode(scene.priors, matched.boxes)
                wanted = torch.where(matched.positive[..., None], wanted, 0.0)
                losses["loss_l1"] = self.loss_l1(deltas, wanted, weight=positive[..., None])
        return {name: loss / count for name, loss in losses.items()}
