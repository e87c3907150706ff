"""Assignment by intersection over union, for whole batches at once.

Letters: B images, P candidates, M object slots, I slots of ignored objects.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.models.assigners.assignment import BACKGROUND, IGNORE, Assignment
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets

PAIRS_AT_ONCE = 1 << 26
"""How many IoU values are held at a time: 256 MB in float32, beside a few temporaries of that size. Batches with more
pairs are worked through in slices of the object slots; the slicing depends on shapes alone."""


@ASSIGNERS.register()
class MaxIoUAssigner:
    """Positive from an IoU upwards, negative below another one, and a best candidate for every object.

    1. Every candidate starts as ignored. 2. Those whose largest IoU is below `neg_iou_thr` (or in the half-open range
    that it gives) become background. 3. Those from `pos_iou_thr` upwards answer for their best object. 4. With
    `match_low_quality` every object whose best IoU reaches `min_pos_iou` takes its best candidates, also from other
    objects; among several objects the last one wins.
    An image without objects makes every candidate background.

    Source: Ren et al., Faster R-CNN, section 3.1.2; step 4 as in MMDetection.

    Args:
        pos_iou_thr: smallest IoU of a positive.
        neg_iou_thr: a bound, or (low, high): negatives have low <= IoU < high.
        min_pos_iou: smallest IoU of step 4.
        gt_max_assign_all: step 4 takes all candidates that share the best IoU, not just the first.
        ignore_iof_thr: candidates that lie in an ignored object by more than this share of their area are ignored;
            off unless positive.
        ignore_wrt_candidates: the share is of the candidate's area, else of the ignored object's.
        match_low_quality: whether step 4 is done.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float | Sequence[float],
        *,
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
        match_low_quality: bool = True,
    ) -> None:
        if isinstance(neg_iou_thr, Sequence):
            if len(neg_iou_thr) != 2:
                raise ValueError(f"neg_iou_thr must be a number or (low, high), not {tuple(neg_iou_thr)}")
            self.neg_iou_range = (float(neg_iou_thr[0]), float(neg_iou_thr[1]))
        else:
            self.neg_iou_range = (0.0, float(neg_iou_thr))
        self.pos_iou_thr = pos_iou_thr
        self.min_pos_iou = min_pos_iou
        self.gt_max_assign_all = gt_max_assign_all
        self.ignore_iof_thr = ignore_iof_thr
        self.ignore_wrt_candidates = ignore_wrt_candidates
        self.match_low_quality = match_low_quality

    @torch.no_grad()
    def __call__(self, boxes: Tensor, targets: Targets, *, candidates: Tensor | None = None) -> Assignment:
        """The object of each candidate.

        Args:
            boxes: [P, 4] shared by the images, or [B, P, 4]; xyxy.
            targets: padded objects of the batch.
            candidates: bool [B, P]; boxes outside it are IGNORE and count nowhere (None: all take part).
        """
        boxes = boxes.float()
        if candidates is not None:
            boxes = torch.where(candidates[..., None], boxes, 0.0)  # an empty box overlaps with nothing
        objects = torch.where(targets.valid[..., None], targets.boxes, 0.0)
        batch, num_slots = objects.shape[:2]
        shape = (batch, boxes.shape[-2])
        out = self._blocked(boxes, targets)  # [B, P]
        best = boxes.new_full(shape, -1.0)
        best_index = torch.zeros(shape, dtype=torch.int64, device=boxes.device)
        forced = torch.full(shape, BACKGROUND, dtype=torch.int64, device=boxes.device)
        step = max(1, PAIRS_AT_ONCE // max(1, batch * shape[1]))
        for start in range(0, num_slots if shape[1] else 0, step):
            stop = min(start + step, num_slots)
            overlaps = _overlaps(objects[:, start:stop], boxes)  # [B, m, P], 0 for padded slots
            if out is not None:
                overlaps = torch.where(out[:, None], -1.0, overlaps)
            slice_best, slice_index = overlaps.max(dim=1)
            better = slice_best > best  # ties stay with the earlier object
            best_index = torch.where(better, slice_index + start, best_index)
            best = torch.where(better, slice_best, best)
            if self.match_low_quality:
                slots = torch.arange(start, stop, device=boxes.device)
                taken = self._low_quality(overlaps, targets.valid[:, start:stop], candidates)
                forced = torch.maximum(forced, torch.where(taken, slots[:, None], BACKGROUND).amax(dim=1))
        low, high = self.neg_iou_range
        gt_index = torch.full(shape, IGNORE, dtype=torch.int64, device=boxes.device)
        gt_index = gt_index.masked_fill((best >= max(low, 0.0)) & (best < high), BACKGROUND)
        gt_index = torch.where(best >= self.pos_iou_thr, best_index, gt_index)
        gt_index = torch.where(forced >= 0, forced, gt_index)
        without_objects = (targets.count == 0)[:, None]
        gt_index = gt_index.masked_fill(without_objects, BACKGROUND)
        best = best.masked_fill(without_objects, 0.0)
        if candidates is not None:
            gt_index = gt_index.masked_fill(~candidates, IGNORE)
            best = best.masked_fill(~candidates, 0.0)
        return Assignment(gt_index, best)

    def _low_quality(self, overlaps: Tensor, valid: Tensor, candidates: Tensor | None) -> Tensor:
        """Which candidates each object insists on in step 4, from overlaps [B, m, P]: bool [B, m, P]."""
        if self.gt_max_assign_all:
            gt_best = overlaps.amax(dim=2)  # [B, m]
            taken = overlaps == gt_best[..., None]
        else:
            allowed = overlaps if candidates is None else torch.where(candidates[:, None], overlaps, -1.0)
            gt_best, first = allowed.max(dim=2)
            taken = torch.arange(overlaps.shape[2], device=overlaps.device) == first[..., None]
        return taken & (valid & (gt_best >= self.min_pos_iou))[..., None]

    def _blocked(self, boxes: Tensor, targets: Targets) -> Tensor | None:
        """Candidates inside ignored objects, bool [B, P]; None where nothing can be ignored."""
        num_ignored = targets.ignore_boxes.shape[1]
        if self.ignore_iof_thr <= 0 or num_ignored == 0 or boxes.shape[-2] == 0:
            return None
        over = _areas(boxes).unsqueeze(-2) if self.ignore_wrt_candidates else _areas(targets.ignore_boxes)[..., None]
        shares = _intersections(targets.ignore_boxes, boxes) / over.clamp(min=1e-6)  # [B, I, P]
        present = torch.arange(num_ignored, device=boxes.device) < targets.ignore_count[:, None]
        return torch.where(present[..., None], shares, 0.0).amax(dim=1) > self.ignore_iof_thr


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _intersections(first: Tensor, second: Tensor) -> Tensor:
    """Areas shared by boxes [B, m, 4] and [P, 4] or [B, P, 4]: [B, m, P]."""
    x1, y1, x2, y2 = (v[..., None] for v in first.float().unbind(-1))
    u1, v1, u2, v2 = (v.unsqueeze(-2) for v in second.unbind(-1))
    width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
    return width * (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0)


def _overlaps(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes [B, m, 4] and [P, 4] or [B, P, 4]: [B, m, P]. The union is at least 1e-6."""
    shared = _intersections(first, second)
    union = _areas(first)[..., None] + _areas(second).unsqueeze(-2) - shared
    return shared / union.clamp(min=1e-6)
