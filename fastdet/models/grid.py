"""Where the heatmaps of grid points lie, and what boxes they make.

A box has a map of the area of twice its width and height. Each point has a heatmap of half the map's side.
Letters: G points, by columns; g points of a row; W side of the map, h = W / 2 that of a heatmap.
"""

import math

import torch
from torch import Tensor


def region_corners(grid_points: int, map_size: int) -> list[tuple[int, int]]:
    """Upper left cell (x, y) of each point's heatmap in the map.

    Source: Lu et al., Grid R-CNN Plus, section 2.1.
    """
    side = math.isqrt(grid_points)

    def start(index: int) -> int:
        if index == side - 1:
            return map_size // 4 * 2
        return max(int((index / (side - 1) - 0.25) * map_size), 0)

    return [(start(point // side), start(point % side)) for point in range(grid_points)]


def doubled(boxes: Tensor) -> Tensor:
    """Boxes [..., 4] of twice the width and height about the same centres."""
    half = (boxes[..., 2:] - boxes[..., :2]) / 2
    return torch.cat((boxes[..., :2] - half, boxes[..., 2:] + half), dim=-1)


def boxes_of_heatmaps(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """Boxes [..., 4] whose sides are the means of their points, weighted by how sure these are.

    Source: Lu et al., Grid R-CNN, section 3.2, equation 3.

    Args:
        heatmaps: logits [..., G, h, h].
        boxes: [..., 4] xyxy.
    """
    points, size = heatmaps.shape[-3], heatmaps.shape[-1]
    side = math.isqrt(points)
    scores, place = heatmaps.float().sigmoid().flatten(-2).max(dim=-1)  # [..., G]
    corners = torch.tensor(region_corners(points, 2 * size), device="cpu").to(boxes.device, non_blocking=True)
    cells = torch.stack((place % size, place // size), dim=-1) + corners  # [..., G, 2]
    extent = (boxes[..., 2:] - boxes[..., :2])[..., None, :]
    where = (cells + 0.5) / size * extent + doubled(boxes)[..., None, :2]
    x, y, weight = (v.unflatten(-1, (side, side)) for v in (where[..., 0], where[..., 1], scores))

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum(-1) / weights.sum(-1)

    return torch.stack(
        (
            mean(x[..., 0, :], weight[..., 0, :]),
            mean(y[..., 0], weight[..., 0]),
            mean(x[..., -1, :], weight[..., -1, :]),
            mean(y[..., -1], weight[..., -1]),
        ),
        dim=-1,
    )
