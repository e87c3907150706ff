"""Assignment with a threshold of each object's own: ATSS.

Letters: B images, P priors, m object slots (a slice of M), K candidates of an object.
"""

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners.assignment import BACKGROUND, IGNORE, Assignment
from fastdet.models.assigners.scene import DenseScene
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets


@ASSIGNERS.register()
class ATSSAssigner:
    """The closest priors of each level are an object's candidates; above their mean IoU plus deviation they are its.

    A positive's centre lies in its object. A prior that several objects want answers for the one with the largest IoU.

    Source: Zhang et al., Bridging the Gap Between Anchor-based and Anchor-free Detection, algorithm 1.

    Args:
        topk: candidates a level.
        ignore_iof_thr: priors that lie in an ignored object by more than this share are ignored; off unless positive.
    """

    def __init__(self, topk: int, *, ignore_iof_thr: float = -1) -> None:
        self.topk = topk
        self.ignore_iof_thr = ignore_iof_thr

    @torch.no_grad()
    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment:
        """The object of each prior, and the IoU with it (0 for the background)."""
        priors = scene.priors.float()
        shape = (scene.batch, len(priors))
        candidates = scene.candidates
        out = geometry.blocked(priors, targets, self.ignore_iof_thr)
        if out is not None:
            candidates = ~out if candidates is None else candidates & ~out
        best = torch.zeros(shape, device=priors.device)
        gt_index = torch.full(shape, BACKGROUND, dtype=torch.int64, device=priors.device)
        for start, stop in geometry.slot_slices(targets.boxes.shape[1], shape[0] * shape[1]):
            boxes = targets.boxes[:, start:stop]
            overlaps = geometry.overlaps(boxes, priors)  # [B, m, P]
            wanted = self._wanted(scene, boxes, overlaps, candidates) & targets.valid[:, start:stop, None]
            overlap, index = torch.where(wanted, overlaps, -1.0).max(dim=1)
            better = (overlap >= 0) & ((overlap > best) | (gt_index == BACKGROUND))
            gt_index = torch.where(better, index + start, gt_index)
            best = torch.where(better, overlap, best)
        if candidates is not None:
            gt_index = gt_index.masked_fill(~candidates, IGNORE)
        return Assignment(gt_index, best)

    def _wanted(self, scene: DenseScene, boxes: Tensor, overlaps: Tensor, candidates: Tensor | None) -> Tensor:
        """The priors that each object of boxes [B, m, 4] wants, by IoU [B, m, P]: bool [B, m, P]."""
        points = geometry.centers(scene.priors)
        distances = (points - geometry.centers(boxes)[:, :, None]).square().sum(-1).sqrt()  # [B, m, P]
        if candidates is not None:
            distances = distances.masked_fill(~candidates[:, None], torch.inf)
        closest, start = [], 0
        for length in scene.output.level_lengths:
            level = distances[..., start : start + length]
            closest.append(level.topk(min(self.topk, length), dim=2, largest=False).indices + start)
            start += length
        index = torch.cat(closest, dim=2)  # [B, m, K]
        counted = distances.gather(2, index).isfinite()
        overlap = torch.where(counted, overlaps.gather(2, index), 0.0)
        count = counted.sum(2, keepdim=True)
        mean = overlap.sum(2, keepdim=True) / count.clamp(min=1)
        variance = torch.where(counted, (overlap - mean).square(), 0.0).sum(2, keepdim=True) / (count - 1).clamp(min=1)
        sides = geometry.sides_from(points[index], boxes[:, :, None].expand(-1, -1, index.shape[2], -1))
        positive = counted & (overlap >= mean + variance.sqrt()) & (sides.amin(-1) > 0.01)
        return torch.zeros_like(overlaps, dtype=torch.bool).scatter(2, index, positive)
