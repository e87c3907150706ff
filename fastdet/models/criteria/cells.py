"""CellCriterion: objectness everywhere but near objects; classes, places and sizes at the positives. YOLOv3.

Letters: B images, P priors, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.models.assigners import Assignment, DenseScene
from fastdet.models.coders.in_cell import place_of
from fastdet.models.criteria.matched import match
from fastdet.models.criteria.objectness import SummedLoss
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


@CRITERIA.register()
class CellCriterion:
    """Sums over the batch.

    Source: Redmon and Farhadi, YOLOv3, sections 2.1 and 2.2.

    Args: (all losses are sums)
        strides: pixels a cell of each level.
        loss_cls, loss_conf, loss_xy: of logits towards targets in [0, 1].
        loss_wh: of logarithms of sizes.
        one_hot_smoother: how much of a class's certainty is spread over all classes.
    """

    def __init__(
        self,
        strides: Sequence[float],
        loss_cls: SummedLoss,
        loss_conf: SummedLoss,
        loss_xy: SummedLoss,
        loss_wh: SummedLoss,
        *,
        one_hot_smoother: float = 0.0,
    ) -> None:
        self.strides = tuple(strides)
        self.loss_cls = loss_cls
        self.loss_conf = loss_conf
        self.loss_xy = loss_xy
        self.loss_wh = loss_wh
        self.one_hot_smoother = one_hot_smoother

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]:
        """The four losses, computed in float32.

        Raises:
            ValueError: the head says no objectness.
        """
        output = scene.output
        if output.quality is None:
            raise ValueError("the criterion needs a head with objectness")
        with torch.autocast(scene.priors.device.type, enabled=False):
            logits, said = output.cls_logits.float(), output.box_deltas.float()
            num_classes = logits.shape[-1]
            matched = match(assignment, targets, num_classes)
            positive = matched.positive.float()
            chosen = (matched.labels[..., None] == torch.arange(num_classes, device=logits.device)).float()
            wanted = chosen * (1 - self.one_hot_smoother) + self.one_hot_smoother / num_classes
            deltas = scene.coder.encode(scene.priors, matched.boxes)
            place = place_of(deltas, scene.per_level(self.strides)[:, None])
            each = positive[..., None]
            return {
                "loss_cls": self.loss_cls(logits, wanted, weight=each),
                "loss_conf": self.loss_conf(output.quality.float(), positive, weight=matched.counted.float()),
                "loss_xy": self.loss_xy(said[..., :2], place, weight=each),
                "loss_wh": self.loss_wh(said[..., 2:], deltas[..., 2:], weight=each),
            }
