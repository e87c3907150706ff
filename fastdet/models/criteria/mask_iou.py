"""MaskIoUCriterion: what the scores of masks are trained for.

Letters: B images, P slots for positives, K = B * P, W side of a mask, H pixel rows of the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet.models.criteria.anchor import BoxLoss
from fastdet.models.criteria.roi import mask_index, mask_targets
from fastdet.registry import CRITERIA
from fastdet.structures import MaskBuffer, Targets


@CRITERIA.register()
class MaskIoUCriterion:
    """The predicted IoU of each positive's mask against the true one; masks that miss their object count nowhere.

    The true IoU is that of the mask inside the RoI with the whole object, also with what lies outside the RoI.

    Source: Huang et al., Mask Scoring R-CNN, section 3.3.

    Args:
        loss_iou: of the IoU.
        mask_thr_binary: a mask's pixels are those whose logit is above it (the logit, as in MMDetection).
        mask_size: W.
    """

    def __init__(self, loss_iou: BoxLoss, *, mask_thr_binary: float = 0.5, mask_size: int = 28) -> None:
        self.loss_iou = loss_iou
        self.mask_thr_binary = mask_thr_binary
        self.mask_size = mask_size

    def __call__(
        self,
        ious: Tensor,
        logits: Tensor,
        rois: Tensor,
        positive: Tensor,
        gt_index: Tensor,
        targets: Targets,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """`loss_mask_iou`, computed in float32.

        Args:
            ious: [B, P] predicted for the class of the object.
            logits: [B, P, W, W] of the mask of that class.
            rois: [B, P, 4] xyxy, input pixels.
            positive: bool [B, P]; other slots count nowhere.
            gt_index: [B, P] object slot of each positive.
            image_size: (H, W) of the padded batch.
        """
        with torch.autocast(rois.device.type, enabled=False):
            wanted = self.true_ious(logits, rois, positive, gt_index, targets, image_size)
            counted = positive & (wanted > 0)
            average = counted.sum().clamp(min=1)
            wanted = torch.where(counted, wanted, 0.0)
            return {"loss_mask_iou": self.loss_iou(ious.float(), wanted, weight=counted.float(), avg_factor=average)}

    @torch.no_grad()
    def true_ious(
        self,
        logits: Tensor,
        rois: Tensor,
        positive: Tensor,
        gt_index: Tensor,
        targets: Targets,
        image_size: tuple[int, int],
    ) -> Tensor:
        """The IoU [B, P] of each mask with its whole object; NaN where both are empty."""
        found = logits.float() > self.mask_thr_binary
        inside = mask_targets(rois, positive, gt_index, targets, image_size, self.mask_size)
        assert targets.masks is not None
        index = mask_index(positive, gt_index, targets).flatten()
        share = inside_share(targets.masks, index, rois.flatten(0, 1), image_size).view_as(positive)
        shared = (found & inside).sum((-2, -1))
        whole = inside.sum((-2, -1)) / (share + 1e-7)
        return shared / (found.sum((-2, -1)) + whole - shared)


def inside_share(masks: MaskBuffer, index: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The share of each mask's pixels that lie inside a box, in whole pixels.

    The pixels of a row of a bitmap follow each other, so that one running sum over all bitmaps gives every row's.

    Args:
        index: [K] int64 the mask of each box; negative gives 0.
        boxes: [K, 4] xyxy, input pixels; their coordinates are cut to whole pixels, at least one a side.
        image_size: (H, W).

    Returns:
        [K] float32.
    """
    if len(masks.offsets) == 0:
        return torch.zeros(len(index), device=boxes.device)
    total = F.pad(masks.bits.cumsum(0, dtype=torch.int64), (1, 0))  # [N + 1] pixels before each place
    offset = masks.offsets[index.clamp(min=0)]
    left, top, width, height = masks.windows[index.clamp(min=0)].long().unbind(-1)
    x1, x2 = boxes[:, 0::2].long().clamp(0, image_size[1]).unbind(-1)
    y1, y2 = boxes[:, 1::2].long().clamp(0, image_size[0]).unbind(-1)
    x2, y2 = torch.maximum(x2, x1 + 1), torch.maximum(y2, y1 + 1)
    row = torch.arange(image_size[0], device=boxes.device)
    here = (row >= torch.maximum(y1, top)[:, None]) & (row < torch.minimum(y2, top + height)[:, None])  # [K, H]
    start = offset[:, None] + (row - top[:, None]) * width[:, None]

    def before(x: Tensor) -> Tensor:
        place = start + torch.minimum((x - left).clamp(min=0), width)[:, None]
        return total[torch.where(here, place, 0)]

    area = (before(x2) - before(x1)).sum(1)
    whole = total[offset + width * height] - total[offset]
    return torch.where(index >= 0, area / (whole + 1e-7), 0.0)
