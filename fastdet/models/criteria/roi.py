"""RoICriterion and MaskCriterion: what the heads of the second stage are trained for.

Letters: B images, S sampled slots, P slots for positives, M object slots, C classes, W side of a mask.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet import ops
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.criteria.anchor import BoxLoss, ClassLoss
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.losses import MaskLoss
from fastdet.models.samplers import Selection
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


class NamedClassLoss(Protocol):
    """A class loss of several parts; `objectness`: the logits end with those of object and background."""

    use_sigmoid: bool
    objectness: bool

    def __call__(self, logits: Tensor, labels: Tensor, *, weight: Tensor, avg_factor: Tensor) -> dict[str, Tensor]: ...


class SampledCriterion(Protocol):
    """What the box head's output for sampled RoIs is trained for; the coder must be one that it knows."""

    def __call__(
        self, output: BBoxOutput, rois: Tensor, coder: Any, selection: Selection, targets: Targets
    ) -> dict[str, Tensor]: ...

    def elementwise_class_loss(self, logits: Tensor, classes: Tensor) -> Tensor: ...


@CRITERIA.register()
class RoICriterion:
    """Class loss over the sampled RoIs, box loss over the positives, both divided by the number of sampled RoIs.

    Source: Girshick, Fast R-CNN, section 2.3.

    Args:
        loss_cls, loss_bbox: the two losses; without the second one boxes are not trained.
        reg_decoded_bbox: the box loss compares boxes in pixels instead of deltas.
        pos_weight: weight of positives in the class loss; 1 unless positive.
    """

    def __init__(
        self,
        loss_cls: ClassLoss | NamedClassLoss,
        loss_bbox: BoxLoss | None,
        *,
        reg_decoded_bbox: bool = False,
        pos_weight: float = -1,
    ) -> None:
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.reg_decoded_bbox = reg_decoded_bbox
        self.pos_weight = pos_weight if pos_weight > 0 else 1.0

    def __call__(
        self, output: BBoxOutput, rois: Tensor, coder: DeltaXYWHBBoxCoder, selection: Selection, targets: Targets
    ) -> dict[str, Tensor]:
        """`loss_cls`, `loss_bbox`, and `acc`, the share of rightly classified RoIs in percent; computed in float32.

        A class loss that tells objects from the background apart from their classes names its parts and shares itself.

        Args:
            output: logits [B, S, C + 1], background last, or [B, S, C + 2], object and background last; deltas
                [B, S, C * 4] or [B, S, 4].
            rois: [B, S, 4] xyxy, input pixels.
            selection: the slots of each image that count.
        """
        with torch.autocast(rois.device.type, enabled=False):
            logits, deltas = output.logits.float(), output.deltas.float().unflatten(-1, (-1, 4))
            positive = selection.positive
            losses = sampled_class_losses(self.loss_cls, logits, selection, targets, self.pos_weight)
            if self.loss_bbox is None:
                return losses
            labels = targets.labels.gather(1, selection.gt_index)  # [B, S]
            values = of_class(deltas, torch.where(positive, labels, 0))  # [B, S, 4]
            if self.reg_decoded_bbox:
                values = coder.decode(rois, values)
            box_weight = positive.float()[..., None].expand_as(values)
            box_target = self._box_targets(rois, coder, selection, targets)
            loss_bbox = self.loss_bbox(values, box_target, weight=box_weight, avg_factor=selection.valid.sum())
            return losses | {"loss_bbox": loss_bbox}

    def elementwise_class_loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The class loss of each of the logits [B, K, C + 1] for classes [B, K]: [B, K], without its weight.

        Raises:
            ValueError: a class loss other than the softmax's cross entropy.
        """
        return elementwise_class_loss(self.loss_cls, logits, classes)

    @torch.no_grad()
    def _box_targets(self, rois: Tensor, coder: DeltaXYWHBBoxCoder, selection: Selection, targets: Targets) -> Tensor:
        """Deltas or boxes [B, S, 4] of the positives' objects, 0 elsewhere."""
        boxes = targets.boxes.gather(1, selection.gt_index[..., None].expand(-1, -1, 4))
        if not self.reg_decoded_bbox:
            boxes = coder.encode(rois, boxes)
        return torch.where(selection.positive[..., None], boxes, 0.0)


def sampled_class_losses(
    loss: ClassLoss | NamedClassLoss, logits: Tensor, selection: Selection, targets: Targets, pos_weight: float
) -> dict[str, Tensor]:
    """The class loss of sampled RoIs over their number, and the share of rightly classified ones in percent.

    Args:
        logits: [B, S, C + 1], or [B, S, C + 2] with objectness.
        pos_weight: weight of positives.
    """
    labels = targets.labels.gather(1, selection.gt_index)
    classes = torch.where(selection.positive, labels, logits.shape[-1] - (2 if _has_objectness(loss) else 1))
    weight = selection.positive * pos_weight + selection.negative.float()
    count = selection.valid.sum().clamp(min=1)
    found = loss(logits, classes, weight=weight, avg_factor=count)
    if isinstance(found, dict):
        return found
    right = (logits.argmax(dim=-1) == classes) & selection.valid
    return {"loss_cls": found, "acc": right.sum() * 100.0 / count}


def elementwise_class_loss(loss: ClassLoss | NamedClassLoss, logits: Tensor, classes: Tensor) -> Tensor:
    """The class loss of each of the logits [B, K, C + 1] for classes [B, K]: [B, K], without its weight.

    Raises:
        ValueError: a class loss other than the softmax's cross entropy.
    """
    if loss.use_sigmoid or _has_objectness(loss):
        raise ValueError("sampling by loss needs a softmax loss: CrossEntropyLoss(use_sigmoid=False)")
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits.float().transpose(1, 2), classes, reduction="none")


def _has_objectness(loss: ClassLoss | NamedClassLoss) -> bool:
    return bool(getattr(loss, "objectness", False))


@CRITERIA.register()
class MaskCriterion:
    """Mask loss over the positives, of the mask of each one's class.

    The target of a RoI is what RoIAlign finds of its object's mask inside it, at least one half or not.

    Source: He et al., Mask R-CNN, section 3.

    Args:
        loss_mask: of mask logits.
        mask_size: W of the targets, which is the mask head's output size.
    """

    def __init__(self, loss_mask: MaskLoss, *, mask_size: int = 28) -> None:
        self.loss_mask = loss_mask
        self.mask_size = mask_size

    def __call__(
        self,
        logits: Tensor,
        rois: Tensor,
        positive: Tensor,
        gt_index: Tensor,
        targets: Targets,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """`loss_mask`, computed in float32.

        Args:
            logits: [B, P, C, W, W], or [B, P, 1, W, W] for masks without classes.
            rois: [B, P, 4] xyxy, input pixels.
            positive: bool [B, P]; other slots count nowhere.
            gt_index: [B, P] object slot of each positive.
            image_size: (H, W) of the padded batch, to which RoIs are clipped.

        Raises:
            ValueError: targets without masks; logits of another side than `mask_size`.
        """
        if logits.shape[-1] != self.mask_size:
            raise ValueError(
                f"mask_size is {self.mask_size}, but the mask head makes masks of side {logits.shape[-1]}: "
                "they must be equal"
            )
        wanted = mask_targets(rois, positive, gt_index, targets, image_size, self.mask_size).flatten(0, 1)
        labels = targets.labels.gather(1, gt_index).flatten()
        with torch.autocast(rois.device.type, enabled=False):
            weight = positive.flatten().float()
            loss = self.loss_mask(logits.flatten(0, 1).float(), wanted.float(), labels, weight=weight)
        return {"loss_mask": loss}


def mask_index(positive: Tensor, gt_index: Tensor, targets: Targets) -> Tensor:
    """The mask of each positive's object in the batch's buffer [B, P]; -1 for slots that are none."""
    batch, num_slots = targets.labels.shape
    first = torch.arange(batch, device=positive.device)[:, None] * num_slots
    return torch.where(positive, first + gt_index, -1)


@torch.no_grad()
def mask_targets(
    rois: Tensor, positive: Tensor, gt_index: Tensor, targets: Targets, image_size: tuple[int, int], mask_size: int
) -> Tensor:
    """The mask of each positive's object inside its RoI: bool [B, P, W, W].

    Args:
        rois: [B, P, 4] xyxy, input pixels.
        positive: bool [B, P]; other slots get an empty mask.
        gt_index: [B, P] object slot of each positive.
        image_size: (H, W) of the padded batch, to which RoIs are clipped.
        mask_size: W.

    Raises:
        ValueError: targets without masks.
    """
    if targets.masks is None:
        raise ValueError("the mask head needs masks in the targets: load them with LoadAnnotations(with_mask=True)")
    height, width = image_size
    inside = torch.stack([rois[..., 0::2].clamp(0, width), rois[..., 1::2].clamp(0, height)], dim=-1)
    index = mask_index(positive, gt_index, targets)
    shares = ops.crop_masks(*targets.masks, index.flatten(), inside.view(-1, 4), mask_size, image_size)
    return (shares >= 0.5).unflatten(0, positive.shape)


def of_class(values: Tensor, labels: Tensor) -> Tensor:
    """Each slot's entry of its class: [B, S, C or 1, ...] and [B, S] -> [B, S, ...]; one entry serves every class."""
    if values.shape[2] == 1:
        return values[:, :, 0]
    index = labels.view(*labels.shape, *[1] * (values.dim() - 2)).expand(-1, -1, 1, *values.shape[3:])
    return values.gather(2, index)[:, :, 0]
