"""Anchors of a dense head in one kernel.

L levels, A base anchors per cell, P anchors of all levels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.ops.checks import as_coordinates, check_shape


def grid_anchors(
    base_anchors: Tensor, sizes: Sequence[tuple[int, int]], strides: Sequence[tuple[float, float]]
) -> Tensor:
    """Every base anchor shifted to every cell of every level.

    Args:
        base_anchors: [L, A, 4] xyxy around the origin, in input pixels.
        sizes: (H, W) of each level, in cells.
        strides: (sx, sy) of each level, input pixels per cell.

    Returns:
        [P, 4] float32 xyxy in the order level, y, x, base anchor.

    Raises:
        ValueError: A shape or count does not fit.
    """
    check_shape("base_anchors", base_anchors, None, None, 4)
    num_levels = base_anchors.shape[0]
    for name, pairs in (("sizes", sizes), ("strides", strides)):
        if len(pairs) != num_levels or any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"`{name}` must hold one pair for each of the {num_levels} levels, got {list(pairs)}")
    if any(isinstance(side, torch.SymInt) for size in sizes for side in size):
        return _of_open_sizes(as_coordinates("base_anchors", base_anchors), sizes, strides)
    return torch.ops.fastdet.grid_anchors(
        as_coordinates("base_anchors", base_anchors),
        [side for size in sizes for side in size],
        [float(step) for stride in strides for step in stride],
    )


def _of_open_sizes(
    base_anchors: Tensor, sizes: Sequence[tuple[int, int]], strides: Sequence[tuple[float, float]]
) -> Tensor:
    """The same in ranges, where a graph is traced whose sizes are known only when it runs."""
    levels = []
    for base, (height, width), (step_x, step_y) in zip(base_anchors, sizes, strides, strict=True):
        x = torch.arange(width, device=base.device, dtype=base.dtype) * step_x
        y = torch.arange(height, device=base.device, dtype=base.dtype) * step_y
        cells = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)  # [H, W, 2]
        levels.append((cells.repeat(1, 1, 2)[:, :, None] + base).reshape(-1, 4))
    return torch.cat(levels)


@torch.library.register_fake("fastdet::grid_anchors")
def _grid_anchors_fake(base_anchors: Tensor, sizes: list[int], strides: list[float]) -> Tensor:
    cells = sum(height * width for height, width in zip(sizes[::2], sizes[1::2], strict=True))
    return base_anchors.new_empty(cells * base_anchors.shape[1], 4)
