"""Assignment of cells near an object's centre, on the levels of its size: FoveaBox.

Letters: B images, P cells, m object slots (a slice of M).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners.assignment import BACKGROUND, Assignment
from fastdet.models.assigners.scene import DenseScene
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets


@ASSIGNERS.register()
class FoveaAssigner:
    """A cell answers for the smallest object whose shrunk box it lies in, on all levels that take the object's size.

    At the border of the map, the shrunk box is moved to the last cells. The assignment's overlaps are 0.

    Source: Kong et al., FoveaBox, sections 3.3 and 3.4.

    Args:
        strides: pixels a cell of each level.
        scale_ranges: of each level, the smallest and largest root of an object's area in pixels, both included.
        sigma: how much of the object's sides the shrunk box has.
    """

    def __init__(
        self, strides: Sequence[float], scale_ranges: Sequence[tuple[float, float]], sigma: float = 0.4
    ) -> None:
        self.strides = tuple(strides)
        self.low = tuple(low for low, _ in scale_ranges)
        self.high = tuple(high for _, high in scale_ranges)
        self.sigma = sigma

    @torch.no_grad()
    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment:
        """The object of each cell.

        Raises:
            ValueError: another number of levels than ranges or strides.
        """
        priors, sizes = scene.priors, scene.output.level_sizes
        if not len(sizes) == len(self.low) == len(self.strides):
            raise ValueError(
                f"there are {len(self.low)} scale_ranges and {len(self.strides)} strides for {len(sizes)} levels: "
                "give one a level"
            )
        stride = scene.per_level(self.strides)
        bottom, right = (scene.per_level(tuple(n - 1.0 for n in side)) for side in zip(*sizes, strict=True))
        last = torch.stack((right, bottom), dim=-1)  # [P, 2]
        cell = (geometry.centers(priors) / stride[:, None] - 0.5).round()  # [P, 2]
        low, high = scene.per_level(self.low), scene.per_level(self.high)
        shape = (scene.batch, len(priors))
        best = torch.full(shape, torch.inf, device=priors.device)
        gt_index = torch.full(shape, BACKGROUND, dtype=torch.int64, device=priors.device)
        for start, stop in geometry.slot_slices(targets.boxes.shape[1], 4 * len(priors) * scene.batch):
            boxes = targets.boxes[:, start:stop, None]  # [B, m, 1, 4]
            area = geometry.areas(boxes)
            taken = self._near_center(boxes / stride[:, None], cell, last)
            taken &= (area.sqrt() >= low) & (area.sqrt() <= high) & targets.valid[:, start:stop, None]
            smallest, index = torch.where(taken, area, torch.inf).min(dim=1)
            gt_index = torch.where(smallest < best, index + start, gt_index)
            best = torch.minimum(smallest, best)
        return Assignment(gt_index, torch.zeros(shape, device=priors.device))

    def _near_center(self, boxes: Tensor, cell: Tensor, last: Tensor) -> Tensor:
        """Whether cells [P, 2] lie in the shrunk boxes [B, m, P, 4], all in strides: bool [B, m, P]."""
        corner, half = boxes[..., :2], 0.5 * (boxes[..., 2:] - boxes[..., :2])
        first = (corner + (1 - self.sigma) * half - 0.5).ceil().clamp(min=0).minimum(last)
        final = (corner + (1 + self.sigma) * half - 0.5).floor().clamp(min=0).minimum(last)
        return ((cell >= first) & (cell <= final)).all(-1)
