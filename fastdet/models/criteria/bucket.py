"""Criteria of boxes by buckets: class, bucket and offset losses of RoIs and of dense heads.

Letters: B images, S slots, n buckets of a side, D = 8 * n numbers of a box.
"""

import torch
from torch import Tensor

from fastdet.models.assigners import BoxCoder
from fastdet.models.coders.bucketing import BucketingBBoxCoder, BucketTargets
from fastdet.models.criteria.anchor import BoxLoss, ClassLoss
from fastdet.models.criteria.roi import elementwise_class_loss, sampled_class_losses
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.losses import BinaryCrossEntropyLoss
from fastdet.models.samplers import Selection
from fastdet.registry import CRITERIA
from fastdet.structures import DenseOutput, Targets


@CRITERIA.register()
class BucketRoICriterion:
    """Class loss over the sampled RoIs, bucket and offset losses over the positives.

    The bucket loss is averaged over the sides of all sampled RoIs, the offset loss over the RoIs.

    Source: Wang et al., Side-Aware Boundary Localization, section 3.4.

    Args:
        loss_cls, loss_bbox_cls, loss_bbox_reg: the three losses.
        pos_weight: weight of positives in the class loss; 1 unless positive.
    """

    def __init__(
        self,
        loss_cls: ClassLoss,
        loss_bbox_cls: BinaryCrossEntropyLoss,
        loss_bbox_reg: BoxLoss,
        *,
        pos_weight: float = -1,
    ) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox_cls = loss_bbox_cls
        self.loss_bbox_reg = loss_bbox_reg
        self.pos_weight = pos_weight if pos_weight > 0 else 1.0

    def __call__(
        self, output: BBoxOutput, rois: Tensor, coder: BucketingBBoxCoder, selection: Selection, targets: Targets
    ) -> dict[str, Tensor]:
        """`loss_cls`, `acc`, `loss_bbox_cls` and `loss_bbox_reg`; arguments as RoICriterion's, deltas [B, S, D]."""
        with torch.autocast(rois.device.type, enabled=False):
            losses = sampled_class_losses(self.loss_cls, output.logits.float(), selection, targets, self.pos_weight)
            count = selection.valid.sum().clamp(min=1)
            wanted = _bucket_targets(rois, coder, selection, targets)
            buckets, offsets = output.deltas.float().chunk(2, dim=-1)
            loss_cls = self.loss_bbox_cls(buckets, wanted.labels, weight=wanted.label_weights, avg_factor=count * 4)
            loss_reg = self.loss_bbox_reg(offsets, wanted.offsets, weight=wanted.offset_weights, avg_factor=count)
            return losses | {"loss_bbox_cls": loss_cls, "loss_bbox_reg": loss_reg}

    def elementwise_class_loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """As RoICriterion's."""
        return elementwise_class_loss(self.loss_cls, logits, classes)


@CRITERIA.register()
class BucketAnchorCriterion:
    """Class loss over all priors, bucket and offset losses over the positives, by the sampler's average.

    The bucket loss is averaged over the buckets of as many boxes, the offset loss over their trained offsets.

    Source and arguments: BucketRoICriterion's.
    """

    def __init__(
        self,
        loss_cls: ClassLoss,
        loss_bbox_cls: BinaryCrossEntropyLoss,
        loss_bbox_reg: BoxLoss,
        *,
        pos_weight: float = -1,
    ) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox_cls = loss_bbox_cls
        self.loss_bbox_reg = loss_bbox_reg
        self.pos_weight = pos_weight if pos_weight > 0 else 1.0

    def __call__(
        self, output: DenseOutput, priors: Tensor, coder: BoxCoder, selection: Selection, targets: Targets
    ) -> dict[str, Tensor]:
        """`loss_cls`, `loss_bbox_cls` and `loss_bbox_reg`; arguments as AnchorCriterion's, deltas [B, P, D]."""
        assert isinstance(coder, BucketingBBoxCoder), "buckets need BucketingBBoxCoder"
        with torch.autocast(priors.device.type, enabled=False):
            logits, deltas = selection.take(output.cls_logits).float(), selection.take(output.box_deltas).float()
            background = logits.shape[-1] - (0 if self.loss_cls.use_sigmoid else 1)
            labels = torch.where(selection.positive, targets.labels.gather(1, selection.gt_index), background)
            weight = selection.positive * self.pos_weight + selection.negative.float()
            wanted = _bucket_targets(selection.take(priors), coder, selection, targets)
            buckets, offsets = deltas.chunk(2, dim=-1)
            average = selection.average
            return {
                "loss_cls": self.loss_cls(logits, labels, weight=weight, avg_factor=average),
                "loss_bbox_cls": self.loss_bbox_cls(
                    buckets, wanted.labels, weight=wanted.label_weights, avg_factor=average * 4 * coder.num_side
                ),
                "loss_bbox_reg": self.loss_bbox_reg(
                    offsets, wanted.offsets, weight=wanted.offset_weights, avg_factor=average * 4 * coder.offset_topk
                ),
            }


@torch.no_grad()
def _bucket_targets(
    references: Tensor, coder: BucketingBBoxCoder, selection: Selection, targets: Targets
) -> BucketTargets:
    """What the positives' buckets are trained for, each [B, S, 4 * n]; 0 and without weight elsewhere."""
    boxes = targets.boxes.gather(1, selection.gt_index[..., None].expand(-1, -1, 4))
    positive = selection.positive[..., None]
    return BucketTargets(*(torch.where(positive, v, 0.0) for v in coder.targets(references, boxes)))
