"""DynamicStage: a second stage that asks for better boxes as its proposals get better.

Letters: B images, S sampled slots.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fastdet.models.criteria.roi import RoICriterion, SampledCriterion
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.losses import SmoothL1Loss
from fastdet.models.stages.roi import RoIStage, SampledRoIs, filled
from fastdet.registry import STAGES
from fastdet.structures import Detections, Targets

LEAST_BETA = 1e-15


@STAGES.register()
class DynamicStage(nn.Module):
    """A RoIStage whose IoU threshold and whose bend of the box loss follow the training.

    Every so many batches the threshold becomes the mean of the batches' k-th largest overlaps of proposals (and of the
    objects that join them), and the bend the median of their k-th smallest errors of the centre. Neither is kept by a
    checkpoint, as in MMDetection: a resumed training starts from the first values. No masks.

    Source: Zhang et al., Dynamic R-CNN, section 4.

    Args:
        boxes: the stage, with a smooth L1 loss of deltas.
        iou_topk: k of the overlaps, an image.
        beta_topk: k of the errors, times the images of a batch.
        update_iter_interval: batches between changes.
        initial_iou: least threshold.
        initial_beta: largest bend.
    """

    def __init__(
        self,
        boxes: RoIStage,
        *,
        iou_topk: int,
        beta_topk: int,
        update_iter_interval: int,
        initial_iou: float,
        initial_beta: float,
    ) -> None:
        super().__init__()
        self.boxes = boxes
        self.iou_topk = iou_topk
        self.beta_topk = beta_topk
        self.update_iter_interval = update_iter_interval
        self.initial_iou = initial_iou
        self.initial_beta = initial_beta
        self.overlaps: list[Tensor] = []  # of the batches since the last change, [] each
        self.errors: list[Tensor] = []  # NaN for batches without positives

    @property
    def criterion(self) -> SampledCriterion | None:
        """That of the stage."""
        return self.boxes.criterion

    @property
    def mask_thr_binary(self) -> float:
        """Least probability of a pixel of an instance."""
        return self.boxes.mask_thr_binary

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
        """The losses of the RoIStage; arguments as there."""
        hardness = self.boxes.class_losses(partial(head, features), targets)
        sampled = self.boxes.sample(proposals.boxes, filled(proposals), targets, generator, hardness)
        output = head(features, sampled.boxes, sampled.selection.valid)
        losses = self.boxes.bbox_losses(output, sampled, targets)
        self.follow(proposals, sampled, targets)
        return losses

    def read(
        self, head: StandardRoIHead, features: Sequence[Tensor], proposals: Detections, sizes: Tensor
    ) -> tuple[Tensor, BBoxOutput]:
        """As RoIStage's."""
        return self.boxes.read(head, features, proposals, sizes)

    def predict(
        self, head: StandardRoIHead, features: Sequence[Tensor], proposals: Detections, sizes: Tensor
    ) -> Detections:
        """As RoIStage's."""
        return self.boxes.predict(head, features, proposals, sizes)

    @torch.no_grad()
    def follow(self, proposals: Detections, sampled: SampledRoIs, targets: Targets) -> None:
        """Remembers a batch, and changes threshold and bend when it is time. Nothing is read from the device."""
        assigner, criterion = self.boxes.assigner, self.boxes.criterion
        assert assigner is not None
        assert isinstance(criterion, RoICriterion)
        assert isinstance(criterion.loss_bbox, SmoothL1Loss)
        found = assigner(proposals.boxes, targets, candidates=filled(proposals)).overlaps
        sampler = self.boxes.sampler
        if sampler is not None and sampler.add_gt_as_proposals:
            found = torch.cat((targets.valid.to(found.dtype), found), dim=1)
        number = min(self.iou_topk, found.shape[1])
        self.overlaps.append(found.topk(number, dim=1).values[:, -1].mean())
        self.errors.append(self._error(sampled, targets))
        if len(self.overlaps) < self.update_iter_interval:
            return
        threshold = torch.stack(self.overlaps).mean().clamp(min=self.initial_iou)
        assigner.pos_iou_thr = assigner.min_pos_iou = threshold
        assigner.neg_iou_range = (assigner.neg_iou_range[0], threshold)
        median = _median(torch.stack(self.errors))
        usable = median >= LEAST_BETA  # False for NaN
        criterion.loss_bbox.beta = torch.where(usable, median.clamp(max=self.initial_beta), criterion.loss_bbox.beta)
        self.overlaps, self.errors = [], []

    def _error(self, sampled: SampledRoIs, targets: Targets) -> Tensor:
        """The k-th smallest error of a positive's centre, in units of the coder; NaN without positives."""
        positive, index = sampled.selection.positive, sampled.selection.gt_index
        boxes = targets.boxes.gather(1, index[..., None].expand(-1, -1, 4))
        deltas = self.boxes.coder.encode(sampled.boxes, boxes)  # type: ignore[union-attr]
        errors = torch.where(positive, deltas[..., :2].abs().mean(-1), torch.inf).flatten().sort().values
        count = positive.sum()
        place = (count.clamp(max=self.beta_topk * len(positive)) - 1).clamp(min=0)
        return torch.where(count > 0, errors.gather(0, place[None])[0], torch.nan)


def _median(values: Tensor) -> Tensor:
    """The median [] of those values [N] that are not NaN; NaN if all are."""
    ordered, count = values.sort().values, (~values.isnan()).sum()  # NaN comes last
    middle = torch.stack(((count - 1) // 2, count // 2)).clamp(min=0)
    return ordered.gather(0, middle).mean()
