"""GridCriterion: where the points of a grid over each object are.

Letters: B images, P slots for positives, G points, W side of a box's map, h that of a heatmap.
"""

import math

import torch
from torch import Tensor

from fastdet.models.grid import doubled, region_corners
from fastdet.models.losses import BinaryCrossEntropyLoss
from fastdet.registry import CRITERIA


@CRITERIA.register()
class GridCriterion:
    """Binary cross entropy of both kinds of heatmaps: small circles around the object's points are 1.

    Boxes of which twice a side is no longer than the grid has points in a row have none.

    Source: Lu et al., Grid R-CNN, section 3.2; Grid R-CNN Plus, section 2.1.

    Args:
        loss_grid: of the heatmaps.
        pos_radius: of the circles, in cells.
    """

    def __init__(self, loss_grid: BinaryCrossEntropyLoss, *, pos_radius: int = 1) -> None:
        self.loss_grid = loss_grid
        self.pos_radius = pos_radius

    def __call__(
        self, fused: Tensor, unfused: Tensor, rois: Tensor, boxes: Tensor, chosen: Tensor
    ) -> dict[str, Tensor]:
        """`loss_grid`, averaged over all cells of the chosen slots; computed in float32.

        Args:
            fused, unfused: logits [B, P, G, h, h].
            rois: [B, P, 4] what the heatmaps are of, xyxy, input pixels.
            boxes: [B, P, 4] their objects.
            chosen: slots that count, bool [B, P].
        """
        with torch.autocast(rois.device.type, enabled=False):
            target = self.heatmaps(rois, boxes, fused.shape[2], fused.shape[-1])
            weight = chosen[..., None, None, None].float().expand_as(target)
            average = weight.sum().clamp(min=1)
            losses = [self.loss_grid(v.float(), target, weight=weight, avg_factor=average) for v in (fused, unfused)]
            return {"loss_grid": losses[0] + losses[1]}

    @torch.no_grad()
    def heatmaps(self, rois: Tensor, boxes: Tensor, grid_points: int, size: int) -> Tensor:
        """The heatmaps [..., G, h, h] that RoIs [..., 4] should have for objects [..., 4]."""
        side, area = math.isqrt(grid_points), doubled(rois)
        extent = area[..., 2:] - area[..., :2]  # [..., 2]
        steps = torch.arange(side, device=rois.device) / (side - 1)
        lines = boxes[..., None, :2] * (1 - steps)[:, None] + boxes[..., None, 2:] * steps[:, None]  # [..., g, 2]
        cells = ((lines - area[..., None, :2]) / extent[..., None, :] * (2 * size)).trunc()
        corners = region_corners(grid_points, 2 * size)
        x0 = torch.tensor([corners[i * side][0] for i in range(side)], device="cpu").to(rois.device, non_blocking=True)
        index = x0[:, None] + torch.arange(size, device=rois.device)  # [g, h] cells of the map, alike in both axes
        apart = (index - cells.transpose(-1, -2)[..., None]).square()  # [..., 2, g, h]
        across, along = apart[..., 0, :, None, None, :], apart[..., 1, None, :, :, None]
        inside = across + along <= self.pos_radius**2  # [..., g, g, h, h]
        large = (extent > side).all(-1)[..., None, None, None, None]
        return (inside & large).flatten(-4, -3).float()
