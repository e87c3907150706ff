"""Assignment of points to the objects whose centre is closest, on the level of the object's size: RepPoints.

Letters: B images, P points, m object slots (a slice of M).
"""

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners.assignment import BACKGROUND, IGNORE, Assignment
from fastdet.models.assigners.scene import DenseScene
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets


@ASSIGNERS.register()
class PointAssigner:
    """An object takes the points of its level that are closest to its centre; a point keeps its closest object.

    An object's level is the whole logarithm of the root of its area over `scale`, a level's that of its stride.
    Distances are in widths and heights of the object. The assignment's overlaps are 0: points have none.

    Source: Yang et al., RepPoints, section 4.2.

    Args:
        scale: sides of an object in strides of its level.
        pos_num: how many points an object takes.
    """

    def __init__(self, scale: float = 4, pos_num: int = 3) -> None:
        self.scale = scale
        self.pos_num = pos_num

    @torch.no_grad()
    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment:
        """The object of each point."""
        priors = scene.priors
        points, level = geometry.centers(priors), (priors[:, 2] - priors[:, 0]).log2().int()
        shape = (scene.batch, len(priors))
        best = torch.full(shape, torch.inf, device=priors.device)
        gt_index = torch.full(shape, BACKGROUND, dtype=torch.int64, device=priors.device)
        for start, stop in geometry.slot_slices(targets.boxes.shape[1], 2 * len(priors) * scene.batch):
            boxes = targets.boxes[:, start:stop]
            size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6)
            own_level = ((size / self.scale).log2().sum(-1) / 2).int().clamp(level.min(), level.max())  # [B, m]
            allowed = (own_level[..., None] == level) & targets.valid[:, start:stop, None]
            if scene.candidates is not None:
                allowed &= scene.candidates[:, None]
            distance = ((points - geometry.centers(boxes)[:, :, None]) / size[:, :, None]).norm(dim=-1)  # [B, m, P]
            closest, index = self._closest(torch.where(allowed, distance, torch.inf))
            gt_index = torch.where(closest < best, index + start, gt_index)
            best = torch.minimum(closest, best)
        if scene.candidates is not None:
            gt_index = gt_index.masked_fill(~scene.candidates, IGNORE)
        return Assignment(gt_index, torch.zeros(shape, device=priors.device))

    def _closest(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """The closest object that takes each point, by distance [B, m, P]: its distance and slot [B, P]."""
        near, index = distance.topk(min(self.pos_num, distance.shape[2]), dim=2, largest=False)
        return torch.full_like(distance, torch.inf).scatter(2, index, near).min(dim=1)
