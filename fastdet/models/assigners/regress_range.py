"""Assignment of points by where they lie and how far an object's sides are: FCOS.

Letters: B images, P points, m object slots (a slice of M).
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
class RegressRangeAssigner:
    """A point answers for the smallest object that it lies in, if the farthest side is in its level's range.

    The assignment's overlaps are 0: points have none.

    Source: Tian et al., FCOS, section 3.2; the centre region: their repository and the journal version, section 3.1.

    Args:
        regress_ranges: of each level, (low, high) pixels, both included.
        center_radius: the point must lie within so many strides of the object's centre as well; None: anywhere in it.
    """

    def __init__(self, regress_ranges: Sequence[tuple[float, float]], center_radius: float | None = None) -> None:
        self.low = tuple(low for low, _ in regress_ranges)
        self.high = tuple(high for _, high in regress_ranges)
        self.center_radius = center_radius

    @torch.no_grad()
    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment:
        """The object of each point.

        Raises:
            ValueError: another number of levels than ranges.
        """
        priors, num_levels = scene.priors, len(scene.output.level_sizes)
        if num_levels != len(self.low):
            raise ValueError(f"there are {len(self.low)} regress_ranges for {num_levels} levels: give one a level")
        points = geometry.centers(priors)
        low, high = scene.per_level(self.low), scene.per_level(self.high)
        shape = (scene.batch, len(priors))
        best = torch.full(shape, torch.inf, device=priors.device)
        gt_index = torch.full(shape, BACKGROUND, dtype=torch.int64, device=priors.device)
        valid = targets.valid
        for start, stop in geometry.slot_slices(targets.boxes.shape[1], 4 * len(priors) * scene.batch):
            boxes = targets.boxes[:, start:stop, None]  # [B, m, 1, 4]
            sides = geometry.sides_from(points.expand(*boxes.shape[:2], -1, -1), boxes.expand(-1, -1, len(priors), -1))
            farthest = sides.amax(-1)  # [B, m, P]
            inside = sides.amin(-1) > 0
            if self.center_radius is not None:
                inside &= self._near_center(points, priors, boxes)
            inside &= (farthest >= low) & (farthest <= high) & valid[:, start:stop, None]
            area, index = torch.where(inside, geometry.areas(boxes), torch.inf).min(dim=1)
            gt_index = torch.where(area < best, index + start, gt_index)
            best = torch.minimum(area, best)
        if scene.candidates is not None:
            gt_index = gt_index.masked_fill(~scene.candidates, IGNORE)
        return Assignment(gt_index, torch.zeros(shape, device=priors.device))

    def _near_center(self, points: Tensor, priors: Tensor, boxes: Tensor) -> Tensor:
        """Points [P, 2] within the radius of the centres of boxes [B, m, 1, 4], by cells [P, 4]: bool [B, m, P]."""
        assert self.center_radius is not None
        reach = (priors[:, 2:] - priors[:, :2]) * self.center_radius  # [P, 2]
        center = geometry.centers(boxes)
        # the differences are taken as MMDetection takes them, so that points on the border fall to the same side
        return ((points - (center - reach) > 0) & (center + reach - points > 0)).all(-1)
