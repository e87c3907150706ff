"""GuideCriterion: what guided anchors are trained for, their locations and shapes.

Letters: B images, P cells of all levels, S sampled slots, M object slots, H and W cells of a level.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.models.criteria.anchor import BoxLoss, ClassLoss
from fastdet.models.samplers import Selection
from fastdet.registry import CRITERIA
from fastdet.structures import DenseOutput, Targets


@CRITERIA.register()
class GuideCriterion:
    """A location loss over all cells, and a shape loss over the sampled positives.

    An object belongs to the level whose square is nearest to it in size. There the cells in the middle of it (a share
    of each side) count 1, those around them nothing, up to a larger share; on the levels beside, all cells up to the
    larger share count nothing. All other cells count 0.1. Where objects overlap, the last one decides.

    The location's label follows MMDetection: since its 2.0 a label of 1 is the background of a loss with one class, so
    with FocalLoss the logit says that a cell is not in the middle of an object.

    Source: Wang et al., Region Proposal by Guided Anchoring, section 3.5.

    Args:
        loss_loc: of the location's logits.
        loss_shape: of anchors against their objects, in pixels.
        anchor_scale: side of the squares in strides.
        center_ratio, ignore_ratio: the two shares, in [0, 1].
        prefix: goes between "loss_" and the names, as in loss_anchor_shape.
    """

    def __init__(
        self,
        loss_loc: ClassLoss,
        loss_shape: BoxLoss,
        anchor_scale: float,
        *,
        center_ratio: float,
        ignore_ratio: float,
        prefix: str = "",
    ) -> None:
        self.loss_loc = loss_loc
        self.loss_shape = loss_shape
        self.anchor_scale = anchor_scale
        self.center_ratio = center_ratio
        self.ignore_ratio = ignore_ratio
        self.prefix = prefix

    def __call__(
        self, guide: DenseOutput, anchors: Tensor, strides: Sequence[float], selection: Selection, targets: Targets
    ) -> dict[str, Tensor]:
        """The two losses, computed in float32.

        Args:
            guide: logits [B, P, 1] of the locations.
            anchors: [B, S, 4] of the sampled slots, xyxy, input pixels.
            strides: of each level.
            selection: the slots of each image that count.
        """
        labels, weight = self.locations(guide.level_sizes, strides, targets)
        with torch.autocast(anchors.device.type, enabled=False):
            average = anchors.new_full((), labels.numel() / 200)
            loss_loc = self.loss_loc(guide.cls_logits.float(), labels, weight=weight, avg_factor=average)
            boxes = targets.boxes.gather(1, selection.gt_index[..., None].expand(-1, -1, 4))
            positive = selection.positive.float()[..., None].expand_as(anchors)
            loss_shape = self.loss_shape(anchors, boxes, weight=positive, avg_factor=selection.average)
        return {f"loss_{self.prefix}shape": loss_shape, f"loss_{self.prefix}loc": loss_loc}

    @torch.no_grad()
    def locations(
        self, level_sizes: Sequence[tuple[int, int]], strides: Sequence[float], targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """1 for cells in the middle of an object, else 0: int64 [B, P]; and how much each cell counts: [B, P]."""
        boxes, last = targets.boxes.float(), len(level_sizes) - 1
        sides = (boxes[..., 2:] - boxes[..., :2]).prod(-1).sqrt()  # [B, M]
        own = (sides.log2() - math.log2(self.anchor_scale * strides[0]) + 0.5).floor().clamp(0, last)
        labels, weights = [], []
        for level, (size, stride) in enumerate(zip(level_sizes, strides, strict=True)):
            mine = (targets.valid & (own == level))[..., None, None]
            beside = (targets.valid & ((own - level).abs() == 1))[..., None, None]
            middle = _covered(boxes / stride, self.center_ratio, size) & mine  # [B, M, H, W]
            around = _covered(boxes / stride, self.ignore_ratio, size)
            turn = 2 * torch.arange(boxes.shape[1], device=boxes.device)[:, None, None]
            deciding = torch.where(middle, turn + 1, torch.where(around & mine, turn, -1)).amax(1)  # [B, H, W]
            weight = torch.where((around & beside).any(1), 0.0, 0.1)
            weight = torch.where(deciding >= 0, (deciding % 2).float(), weight)
            labels.append(middle.any(1).long().flatten(1))
            weights.append(weight.flatten(1))
        return torch.cat(labels, 1), torch.cat(weights, 1)


def _covered(boxes: Tensor, share: float, size: tuple[int, int]) -> Tensor:
    """The cells of a level within the middle share of boxes [B, M, 4], which are in cells: bool [B, M, H, W]."""
    edge = (1 - share) / 2
    start, stop = boxes[..., :2], boxes[..., 2:]
    low = ((1 - edge) * start + edge * stop).round().clamp(min=0)
    high = (edge * start + (1 - edge) * stop).round().clamp(min=0)
    axes = []
    for axis, cells in enumerate(reversed(size)):  # x, y
        index = torch.arange(cells, device=boxes.device)
        axes.append((index >= low[..., axis, None]) & (index <= high[..., axis, None]))
    return axes[0][..., None, :] & axes[1][..., :, None]
