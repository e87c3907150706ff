"""Assignment by intersection over union, for whole batches at once.

Letters: B images, P candidates, M object slots, m those of a slice, A approximations of a candidate.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet import ops
from fastdet.models import geometry
from fastdet.models.assigners.assignment import BACKGROUND, IGNORE, Assignment
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets


@ASSIGNERS.register()
class MaxIoUAssigner:
    """Positive from an IoU upwards, negative below another one, and a best candidate for every object.

    1. Every candidate starts as ignored. 2. Those whose largest IoU is below `neg_iou_thr` (or in the half-open range
    that it gives) become background. 3. Those from `pos_iou_thr` upwards answer for their best object. 4. With
    `match_low_quality` every object whose best IoU reaches `min_pos_iou` takes its best candidates, also from other
    objects; among several objects the last one wins.
    An image without objects makes every candidate background.

    A candidate may have approximations, boxes that stand for it: then its IoU with an object is that of the best one.
    A box with a NaN coordinate overlaps nothing.

    Source: Ren et al., Faster R-CNN, section 3.1.2; step 4 as in MMDetection; approximations: Wang et al., Region
    Proposal by Guided Anchoring, section 3.5.

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
            neg_iou_range = (float(neg_iou_thr[0]), float(neg_iou_thr[1]))
        else:
            neg_iou_range = (0.0, float(neg_iou_thr))
        # thresholds that follow the training are tensors []
        self.neg_iou_range: tuple[float, float | Tensor] = neg_iou_range
        self.pos_iou_thr: float | Tensor = pos_iou_thr
        self.min_pos_iou: float | Tensor = min_pos_iou
        self.gt_max_assign_all = gt_max_assign_all
        self.ignore_iof_thr = ignore_iof_thr
        self.ignore_wrt_candidates = ignore_wrt_candidates
        self.match_low_quality = match_low_quality

    @torch.no_grad()
    def __call__(
        self,
        boxes: Tensor,
        targets: Targets,
        *,
        candidates: Tensor | None = None,
        approximations: Tensor | None = None,
    ) -> Assignment:
        """The object of each candidate.

        Args:
            boxes: [P, 4] shared by the images, or [B, P, 4]; xyxy.
            targets: padded objects of the batch.
            candidates: bool [B, P]; boxes outside it are IGNORE and count nowhere (None: all take part).
            approximations: [P, A, 4] of the candidates, shared by the images; None: the boxes themselves.
        """
        boxes = boxes.float()
        out = geometry.blocked(boxes, targets, self.ignore_iof_thr, of_candidates=self.ignore_wrt_candidates)
        (low, high), positive, least = self.neg_iou_range, self.pos_iou_thr, self.min_pos_iou
        if approximations is None and not any(isinstance(v, Tensor) for v in (high, positive, least)):
            index, best = ops.assign_max_iou(
                boxes,
                targets.boxes,
                targets.valid,
                positive=float(positive),
                negative=(low, float(high)),
                min_positive=float(least),
                match_low_quality=self.match_low_quality,
                all_ties=self.gt_max_assign_all,
                candidates=candidates,
                blocked=out,
            )
            return Assignment(index, best)
        return self._by_pairs(boxes, targets, candidates, approximations, out)

    def _by_pairs(
        self,
        boxes: Tensor,
        targets: Targets,
        candidates: Tensor | None,
        approximations: Tensor | None,
        out: Tensor | None,
    ) -> Assignment:
        """The same from the IoUs of all pairs, for what the op has no argument for; `out` [B, P]: the ignored ones."""
        if candidates is not None:
            boxes = torch.where(candidates[..., None], boxes, 0.0)  # an empty box overlaps with nothing
        objects = torch.where(targets.valid[..., None], targets.boxes, 0.0)
        batch, num_slots = objects.shape[:2]
        shape = (batch, boxes.shape[-2])
        best = boxes.new_full(shape, -1.0)
        best_index = torch.zeros(shape, dtype=torch.int64, device=boxes.device)
        forced = torch.full(shape, BACKGROUND, dtype=torch.int64, device=boxes.device)
        num_boxes = 1 if approximations is None else approximations.shape[1]
        for start, stop in geometry.slot_slices(num_slots if shape[1] else 0, batch * shape[1] * num_boxes):
            overlaps = _overlaps(objects[:, start:stop], boxes, candidates, approximations)  # [B, m, P]
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


def _overlaps(objects: Tensor, boxes: Tensor, candidates: Tensor | None, approximations: Tensor | None) -> Tensor:
    """IoU [B, m, P] of objects [B, m, 4] with candidates: 0 for padded slots and for what is no candidate."""
    if approximations is None:
        return geometry.overlaps(objects, boxes)
    overlaps = geometry.overlaps(objects, approximations.float().flatten(0, 1))  # [B, m, P * A]
    best = overlaps.unflatten(2, (-1, approximations.shape[1])).amax(-1)
    return best if candidates is None else torch.where(candidates[:, None], best, 0.0)
