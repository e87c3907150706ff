"""Assignment of anchors of the cell that an object's centre lies in: YOLOv3.

Letters: B images, P anchors, m object slots (a slice of M).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners.assignment import BACKGROUND, IGNORE, Assignment
from fastdet.models.assigners.scene import DenseScene
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets


@ASSIGNERS.register()
class GridAssigner:
    """Anchors that overlap no object well are background; those of an object's cell answer, the best one always.

    As in MMDetection, an anchor counts as of an object's cell if the centre of any object of the image lies there.

    Source: Redmon and Farhadi, YOLOv3, section 2.1.

    Args:
        strides: pixels a cell of each level.
        pos_iou_thr: anchors of a cell answer above this IoU.
        neg_iou_thr: anchors are background up to this IoU with all objects, or within (low, high].
        min_pos_iou: the best anchor of an object answers above this IoU.
        gt_max_assign_all: so do all others with the same IoU.
    """

    def __init__(
        self,
        strides: Sequence[float],
        pos_iou_thr: float,
        neg_iou_thr: float | tuple[float, float],
        *,
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
    ) -> None:
        self.strides = tuple(strides)
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_range = (-1.0, neg_iou_thr) if isinstance(neg_iou_thr, int | float) else neg_iou_thr
        self.min_pos_iou = min_pos_iou
        self.gt_max_assign_all = gt_max_assign_all

    @torch.no_grad()
    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment:
        """The object of each anchor; overlaps are those with objects of the anchor's cell."""
        priors = scene.priors
        shape, num_slots = (scene.batch, len(priors)), targets.boxes.shape[1]
        slices = list(geometry.slot_slices(num_slots, shape[0] * shape[1]))
        nearby = torch.zeros(shape, dtype=torch.bool, device=priors.device)
        anywhere = torch.full(shape, -1.0, device=priors.device)
        for start, stop in slices:
            nearby |= self._in_cell(scene, targets, start, stop)
            anywhere = torch.maximum(anywhere, _overlaps(scene, targets, start, stop).amax(1))
        best = torch.full(shape, -1.0, device=priors.device)
        slot, forced = (torch.full(shape, BACKGROUND, dtype=torch.int64, device=priors.device) for _ in range(2))
        for start, stop in slices:
            overlaps = torch.where(nearby[:, None], _overlaps(scene, targets, start, stop), -1.0)  # [B, m, P]
            overlap, index = overlaps.max(dim=1)
            slot, best = torch.where(overlap > best, index + start, slot), torch.maximum(overlap, best)
            slots = torch.arange(start, stop, device=priors.device)[:, None]
            forced = torch.maximum(forced, torch.where(self._taken(overlaps), slots, BACKGROUND).amax(1))
        low, high = self.neg_iou_range
        gt_index = torch.where((anywhere > low) & (anywhere <= high), BACKGROUND, IGNORE)
        gt_index = torch.where(nearby & (best > self.pos_iou_thr), slot, gt_index)
        gt_index = torch.where(forced >= 0, forced, gt_index)
        without_objects = (targets.count == 0)[:, None]
        return Assignment(gt_index.masked_fill(without_objects, BACKGROUND), best.clamp(min=0))

    def _in_cell(self, scene: DenseScene, targets: Targets, start: int, stop: int) -> Tensor:
        """Anchors whose cell holds the centre of an object of the slice: bool [B, P]."""
        stride = scene.per_level(self.strides)[:, None]
        own = (geometry.centers(scene.priors) / stride).floor()  # [P, 2]
        theirs = (geometry.centers(targets.boxes[:, start:stop])[:, :, None] / stride).floor()  # [B, m, P, 2]
        return ((own == theirs).all(-1) & targets.valid[:, start:stop, None]).any(1)

    def _taken(self, overlaps: Tensor) -> Tensor:
        """The best anchors of each object by IoU [B, m, P]: bool [B, m, P]."""
        highest, first = overlaps.max(dim=2, keepdim=True)
        if self.gt_max_assign_all:
            taken = overlaps == highest
        else:
            taken = torch.arange(overlaps.shape[2], device=overlaps.device) == first
        return taken & (highest > self.min_pos_iou)


def _overlaps(scene: DenseScene, targets: Targets, start: int, stop: int) -> Tensor:
    """IoU of objects of the slice with all anchors, -1 in padded slots: [B, m, P]."""
    overlaps = geometry.overlaps(targets.boxes[:, start:stop], scene.priors)
    return torch.where(targets.valid[:, start:stop, None], overlaps, -1.0)
