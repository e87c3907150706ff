"""RoIStage: what happens to proposals, in training (sampling, losses) and in prediction (detections, masks).

Letters: B images, K proposals or detections, M object slots, S sampled slots, P slots for positives, W side of a mask.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastdet.models.assigners import IGNORE, Assignment, MaxIoUAssigner
from fastdet.models.coders import RoICoder
from fastdet.models.criteria.mask_iou import MaskIoUCriterion
from fastdet.models.criteria.roi import MaskCriterion, SampledCriterion, of_class
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.postprocess.roi import RoIPostprocess
from fastdet.models.samplers import CombinedSampler, OHEMSampler, RandomSampler, Selection
from fastdet.registry import STAGES
from fastdet.structures import Detections, Targets

UNTRAINED = "this detector was built without train_cfg: it has no assigner and no losses"
ClassLosses = Callable[[Tensor, Assignment], Tensor]
"""Class losses [B, K] of candidate boxes [B, K, 4] by their assignment."""


class SampledRoIs(NamedTuple):
    """The RoIs that a stage is trained on."""

    boxes: Tensor  # [B, S, 4] xyxy, input pixels
    selection: Selection  # of the S slots
    is_object: Tensor  # bool [B, S]: slots that hold an object itself, not a proposal


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
        mask_iou_criterion: of training the scores of masks.
        mask_thr_binary: least probability of a pixel of an instance, for who pastes the masks.
    """

    def __init__(
        self,
        coder: RoICoder,
        postprocess: RoIPostprocess,
        *,
        assigner: MaxIoUAssigner | None = None,
        sampler: RandomSampler | CombinedSampler | OHEMSampler | None = None,
        criterion: SampledCriterion | None = None,
        mask_criterion: MaskCriterion | None = None,
        mask_iou_criterion: MaskIoUCriterion | None = None,
        mask_thr_binary: float = 0.5,
    ) -> None:
        super().__init__()
        self.coder = coder
        self.postprocess = postprocess
        self.assigner = assigner
        self.sampler = sampler
        self.criterion = criterion
        self.mask_criterion = mask_criterion
        self.mask_iou_criterion = mask_iou_criterion
        self.mask_thr_binary = mask_thr_binary

    def sample(
        self,
        boxes: Tensor,
        valid: Tensor,
        targets: Targets,
        generator: torch.Generator | None = None,
        class_losses: ClassLosses | None = None,
    ) -> SampledRoIs:
        """The RoIs that the losses look at.

        Args:
            boxes: [B, K, 4] proposals, xyxy, input pixels.
            valid: which slots hold a proposal, bool [B, K].
            generator: of the sampler, on the tensors' device.
            class_losses: for samplers that look at losses.

        Raises:
            ValueError: the stage was built without the parts that training needs.
        """
        if self.assigner is None or self.sampler is None:
            raise ValueError(UNTRAINED)
        assignment = self.assigner(boxes, targets, candidates=valid)
        num_objects = 0
        if self.sampler.add_gt_as_proposals:
            num_objects = targets.boxes.shape[1]
            boxes, assignment = _with_objects(boxes, assignment, targets)
        if isinstance(self.sampler, OHEMSampler):
            assert class_losses is not None
            hardness = class_losses(boxes, assignment)
            selection = self.sampler(assignment, hardness=hardness)
        else:
            selection = self.sampler(assignment, generator=generator)
        assert selection.candidate is not None
        return SampledRoIs(selection.take(boxes), selection, selection.positive & (selection.candidate < num_objects))

    def bbox_losses(self, output: BBoxOutput, sampled: SampledRoIs, targets: Targets) -> dict[str, Tensor]:
        """The losses of the box head's output for sampled RoIs, and `acc` in percent."""
        if self.criterion is None:
            raise ValueError(UNTRAINED)
        return self.criterion(output, sampled.boxes, self.coder, sampled.selection, targets)

    def positives(self, sampled: SampledRoIs) -> tuple[Tensor, Tensor]:
        """What the mask head is trained on: boxes [B, P, 4], and which of them hold a positive, bool [B, P]."""
        assert self.sampler is not None
        room = self.sampler.max_positive  # positives are in the first slots
        return sampled.boxes[:, :room], sampled.selection.positive[:, :room]

    def mask_losses(
        self, logits: Tensor, sampled: SampledRoIs, targets: Targets, image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """The losses of mask logits [B, P, C, W, W] of `positives`; `image_size` is that of the padded batch."""
        if self.mask_criterion is None:
            raise ValueError("the mask head was built without a mask criterion: its loss_mask is missing")
        rois, positive = self.positives(sampled)
        gt_index = sampled.selection.gt_index[:, : rois.shape[1]]
        return self.mask_criterion(logits, rois, positive, gt_index, targets, image_size)

    def class_losses(self, run: Callable[[Tensor, Tensor], BBoxOutput], targets: Targets) -> ClassLosses:
        """The class loss of every candidate under the head that `run` asks, for samplers that look at it."""

        @torch.no_grad()
        def losses(boxes: Tensor, assignment: Assignment) -> Tensor:
            if self.criterion is None:
                raise ValueError(UNTRAINED)
            logits = run(boxes, assignment.gt_index != IGNORE).logits.float()
            labels = targets.labels.gather(1, assignment.gt_index.clamp(min=0))
            classes = torch.where(assignment.positive, labels, logits.shape[-1] - 1)
            return self.criterion.elementwise_class_loss(logits, classes)

        return losses

    def loss(
        self,
        head: StandardRoIHead,
        features: Sequence[Tensor],
        proposals: Detections,
        targets: Targets,
        *,
        image_size: tuple[int, int],
        sizes: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The losses `loss_cls`, `loss_bbox` (and `loss_mask`, `loss_mask_iou`), and `acc` in percent.

        Args:
            features: pyramid levels, finest first.
            proposals: of the first stage; their scores play no part.
            image_size: (H, W) of the padded batch.
            sizes: of each image without padding, which this stage does not look at.
            generator: of the sampler, on the tensors' device.

        Raises:
            ValueError: the stage was built without the parts that training needs.
        """
        hardness = self.class_losses(partial(head, features), targets)
        sampled = self.sample(proposals.boxes, filled(proposals), targets, generator, hardness)
        output = head(features, sampled.boxes, sampled.selection.valid)
        losses = self.bbox_losses(output, sampled, targets)
        if not head.with_masks:
            return losses
        rois, positive = self.positives(sampled)
        if not head.scores_masks:
            return losses | self.mask_losses(head.masks(features, rois, positive), sampled, targets, image_size)
        if self.mask_iou_criterion is None:
            raise ValueError("the mask IoU head was built without a criterion: its loss_iou is missing")
        gt_index = sampled.selection.gt_index[:, : rois.shape[1]]
        labels = targets.labels.gather(1, gt_index)
        logits, ious = head.scored_masks(features, rois, positive, labels)
        losses |= self.mask_losses(logits, sampled, targets, image_size)
        own = of_class(logits, labels)
        return losses | self.mask_iou_criterion(ious, own, rois, positive, gt_index, targets, image_size)

    def read(
        self, head: StandardRoIHead, features: Sequence[Tensor], proposals: Detections, sizes: Tensor
    ) -> tuple[Tensor, BBoxOutput]:
        """RoIs [B, K, 4] and what the box head says of them; slots at and after the count mean nothing."""
        return proposals.boxes, head(features, proposals.boxes, filled(proposals))

    @torch.no_grad()
    def predict(
        self, head: StandardRoIHead, features: Sequence[Tensor], proposals: Detections, sizes: Tensor
    ) -> Detections:
        """Detections of each image, with mask probabilities if the head has masks.

        Where masks have scores, a detection's score is the product of both, and the order stays the classes'.

        Args:
            features: pyramid levels, finest first.
            proposals: of the first stage.
            sizes: (H, W) of each image without padding, [B, 2].
        """
        boxes, output = self.read(head, features, proposals, sizes)
        detections = self.postprocess(output, boxes, filled(proposals), self.coder, sizes)
        if not head.with_masks:
            return detections
        kept = filled(detections)
        if not head.scores_masks:
            return with_masks(detections, [head.masks(features, detections.boxes, kept)])
        logits, ious = head.scored_masks(features, detections.boxes, kept, detections.labels)
        return with_masks(detections._replace(scores=detections.scores * ious.float()), [logits])


def with_masks(detections: Detections, logits: Sequence[Tensor]) -> Detections:
    """Detections with mask probabilities [B, K, W, W]: the mean over the given logits [B, K, C or 1, W, W]."""
    chosen = [of_class(one, detections.labels).float().sigmoid() for one in logits]
    probabilities = torch.stack(chosen).mean(dim=0)
    return detections._replace(masks=probabilities.masked_fill(~filled(detections)[..., None, None], 0.0))


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
