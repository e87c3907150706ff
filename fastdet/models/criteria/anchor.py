"""AnchorCriterion: classification and box losses of sampled anchors.

Letters: B images, P priors, S slots, C class channels, M object slots.
"""

from typing import Protocol

import torch
from torch import Tensor

from fastdet.models.assigners import BoxCoder
from fastdet.models.samplers import Selection
from fastdet.registry import CRITERIA
from fastdet.structures import DenseOutput, Targets


class ClassLoss(Protocol):
    """A loss of class logits [..., C] for labels [...]."""

    use_sigmoid: bool

    def __call__(self, logits: Tensor, labels: Tensor, *, weight: Tensor, avg_factor: Tensor) -> Tensor: ...


class BoxLoss(Protocol):
    """A loss of values [..., 4] for a target of the same shape."""

    def __call__(self, values: Tensor, target: Tensor, *, weight: Tensor, avg_factor: Tensor) -> Tensor: ...


@CRITERIA.register()
class AnchorCriterion:
    """Class loss over positives and negatives, box loss over positives, both divided by the sampler's average.

    Args:
        loss_cls, loss_bbox: the two losses.
        class_agnostic: every object has label 0 (region proposals).
        pos_weight: weight of positives in the class loss; 1 unless positive.
        reg_decoded_bbox: the box loss compares boxes in pixels instead of deltas.
        levelwise: each level has losses of its own, which are summed: for losses that look at all elements together.
            Needs every prior in its place (no sampling).
        prefix: goes between "loss_" and the names, as in loss_rpn_cls.
    """

    def __init__(
        self,
        loss_cls: ClassLoss,
        loss_bbox: BoxLoss,
        *,
        class_agnostic: bool = False,
        pos_weight: float = -1,
        reg_decoded_bbox: bool = False,
        levelwise: bool = False,
        prefix: str = "",
    ) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.class_agnostic = class_agnostic
        self.pos_weight = pos_weight if pos_weight > 0 else 1.0
        self.reg_decoded_bbox = reg_decoded_bbox
        self.levelwise = levelwise
        self.prefix = prefix

    def __call__(
        self,
        output: DenseOutput,
        priors: Tensor,
        coder: BoxCoder,
        selection: Selection,
        targets: Targets,
    ) -> dict[str, Tensor]:
        """The two losses, computed in float32.

        Args:
            priors: [P, 4].
            selection: the slots of each image that count.
        """
        with torch.autocast(output.cls_logits.device.type, enabled=False):
            logits = selection.take(output.cls_logits).float()  # [B, S, C]
            deltas = selection.take(output.box_deltas).float()  # [B, S, 4]
            labels, box_target = self._targets(logits, priors, coder, selection, targets)
            weight = selection.positive * self.pos_weight + selection.negative.float()
            values = deltas
            if self.reg_decoded_bbox:
                anchors = selection.take(priors)
                values = coder.decode(anchors, deltas)
            box_weight = selection.positive.float()[..., None].expand_as(values)
            lengths = output.level_lengths if self.levelwise else (logits.shape[1],)
            cls_parts, box_parts = (
                zip(*(t.split(lengths, dim=1) for t in tensors), strict=True)
                for tensors in ((logits, labels, weight), (values, box_target, box_weight))
            )
            average = selection.average
            loss_cls = torch.stack([self.loss_cls(v, t, weight=w, avg_factor=average) for v, t, w in cls_parts]).sum()
            loss_bbox = torch.stack([self.loss_bbox(v, t, weight=w, avg_factor=average) for v, t, w in box_parts]).sum()
        return {f"loss_{self.prefix}cls": loss_cls, f"loss_{self.prefix}bbox": loss_bbox}

    @torch.no_grad()
    def _targets(
        self, logits: Tensor, priors: Tensor, coder: BoxCoder, selection: Selection, targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """Labels [B, S] and box targets [B, S, 4] of the slots: background and 0 where there is no object."""
        background = logits.shape[-1] - (0 if self.loss_cls.use_sigmoid else 1)
        if self.class_agnostic:
            labels = torch.zeros_like(selection.gt_index)
        else:
            labels = targets.labels.gather(1, selection.gt_index)
        labels = torch.where(selection.positive, labels, background)
        boxes = targets.boxes.gather(1, selection.gt_index[..., None].expand(-1, -1, 4))
        if not self.reg_decoded_bbox:
            boxes = coder.encode(selection.take(priors), boxes)
        return labels, torch.where(selection.positive[..., None], boxes, 0.0)
