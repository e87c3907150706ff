"""RoIStage: what happens to proposals, in training (sampling, losses) and in prediction (detections, masks).

Letters: B images, K proposals or detections, M object slots, S sampled slots, P slots for positives, W side of a mask.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.assigners import IGNORE, Assignment, MaxIoUAssigner
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.criteria.roi import MaskCriterion, RoICriterion, of_class
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.postprocess.roi import RoIPostprocess
from fastdet.models.samplers import RandomSampler
from fastdet.registry import STAGES
from fastdet.structures import Detections, Targets


@STAGES.register()
class RoIStage(nn.Module):
    """Coder, assigner, sampler, criteria and post-processing around the heads of the second stage.

    Training: proposals are assigned to objects, the objects themselves join in front if the sampler says so, each
    image's S slots are sampled (positives first), and the heads' output for them is compared with the objects. Slots
    without a RoI count nowhere. Holds no parameters: the head has them.

    Source: Girshick, Fast R-CNN, section 2.3; He et al., Mask R-CNN, section 3.

    Args:
        coder: of the box head's deltas.
        postprocess: makes detections.
        assigner, sampler, criterion: of training; None for a detector that is not trained.
        mask_criterion: of training a mask head.
        mask_thr_binary: least probability of a pixel of an instance, for who pastes the masks.
    """

    def __init__(
        self,
        coder: DeltaXYWHBBoxCoder,
        postprocess: RoIPostprocess,
        *,
        assigner: MaxIoUAssigner | None = None,
        sampler: RandomSampler | None = None,
        criterion: RoICriterion | None = None,
        mask_criterion: MaskCriterion | None = None,
        mask_thr_binary: float = 0.5,
    ) -> None:
        super().__init__()
        self.coder = coder
        self.postprocess = postprocess
        self.assigner = assigner
        self.sampler = sampler
        self.criterion = criterion
        self.mask_criterion = mask_criterion
        self.mask_thr_binary = mask_thr_binary

    def loss(
        self,
        head: StandardRoIHead,
        features: Sequence[Tensor],
        proposals: Detections,
        targets: Targets,
        *,
        image_size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The losses `loss_cls`, `loss_bbox` (and `loss_mask`), and `acc` in percent.

        Args:
            features: pyramid levels, finest first.
            proposals: of the first stage; their scores play no part.
            image_size: (H, W) of the padded batch.
            generator: of the sampler, on the tensors' device.

        Raises:
            ValueError: the stage was built without the parts that training needs.
        """
        if self.assigner is None or self.sampler is None or self.criterion is None:
            raise ValueError("this detector was built without train_cfg: it has no assigner and no losses")
        assignment = self.assigner(proposals.boxes, targets, candidates=filled(proposals))
        boxes = proposals.boxes
        if self.sampler.add_gt_as_proposals:
            boxes, assignment = _with_objects(boxes, assignment, targets)
        selection = self.sampler(assignment, generator=generator)
        rois = selection.take(boxes)  # [B, S, 4]
        output = head(features, rois, selection.valid)
        losses = self.criterion(output, rois, self.coder, selection, targets)
        if not head.with_masks:
            return losses
        if self.mask_criterion is None:
            raise ValueError("the mask head was built without a mask criterion: its loss_mask is missing")
        room = self.sampler.max_positive  # positives are in the first slots
        rois, positive, gt_index = rois[:, :room], selection.positive[:, :room], selection.gt_index[:, :room]
        logits = head.masks(features, rois, positive)
        return losses | self.mask_criterion(logits, rois, positive, gt_index, targets, image_size)

    @torch.no_grad()
    def predict(
        self, head: StandardRoIHead, features: Sequence[Tensor], proposals: Detections, sizes: Tensor
    ) -> Detections:
        """Detections of each image, with mask probabilities if the head has masks.

        Args:
            features: pyramid levels, finest first.
            proposals: of the first stage.
            sizes: (H, W) of each image without padding, [B, 2].
        """
        boxes, valid = proposals.boxes, filled(proposals)
        detections = self.postprocess(head(features, boxes, valid), boxes, valid, self.coder, sizes)
        if not head.with_masks:
            return detections
        kept = filled(detections)
        logits = of_class(head.masks(features, detections.boxes, kept), detections.labels)  # [B, K, W, W]
        return detections._replace(masks=logits.float().sigmoid().masked_fill(~kept[..., None, None], 0.0))


def filled(detections: Detections) -> Tensor:
    """Slots that hold a box, bool [B, K]."""
    slots = torch.arange(detections.boxes.shape[1], device=detections.boxes.device)
    return slots < detections.count[:, None]


def _with_objects(boxes: Tensor, assignment: Assignment, targets: Targets) -> tuple[Tensor, Assignment]:
    """The objects in front of the proposals, each answering for itself: boxes [B, M + K, 4] and their assignment."""
    slots = torch.arange(targets.boxes.shape[1], device=boxes.device)
    own = torch.where(targets.valid, slots, IGNORE)
    gt_index = torch.cat([own, assignment.gt_index], dim=1)
    overlaps = torch.cat([targets.valid.to(assignment.overlaps.dtype), assignment.overlaps], dim=1)
    return torch.cat([targets.boxes, boxes], dim=1), Assignment(gt_index, overlaps)
