"""SSDAnchorGenerator: anchors of each level's own sizes, shapes and number.

Letters: L levels, A anchors a cell (of a level), P priors (level, y, x, anchor), B images.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet import ops
from fastdet.models.priors.anchors import with_last_pixel_inside
from fastdet.registry import PRIORS

# First sizes in percent of the input, by input size and smallest ratio: the releases of SSD set them apart.
FIRST_SIZES = {(300, 15): (7, 15), (300, 20): (10, 20), (512, 10): (4, 10), (512, 15): (7, 15)}


@PRIORS.register()
class SSDAnchorGenerator(nn.Module):
    """At every cell's centre: a square of the smallest size, one of the mean size, and the smallest in other shapes.

    Source: Liu et al., SSD, section 2.2.

    Args:
        strides: pixels a cell of each level.
        ratios: of each level: proportions beside 1, each taken both ways.
        min_sizes, max_sizes: pixels of each level; None: from the next three.
        input_size: 300 or 512 pixels.
        basesize_ratio_range: smallest and largest size as shares of the input, for the levels but the first.
        legacy: as AnchorGenerator's.

    Raises:
        ValueError: lists of different lengths; sizes that are neither given nor known.
    """

    def __init__(
        self,
        strides: Sequence[float],
        ratios: Sequence[Sequence[float]],
        *,
        min_sizes: Sequence[float] | None = None,
        max_sizes: Sequence[float] | None = None,
        input_size: int = 300,
        basesize_ratio_range: tuple[float, float] = (0.15, 0.9),
        legacy: bool = False,
    ) -> None:
        super().__init__()
        if min_sizes is None or max_sizes is None:
            min_sizes, max_sizes = _known_sizes(input_size, basesize_ratio_range, len(strides))
        lengths = {len(strides), len(ratios), len(min_sizes), len(max_sizes)}
        if len(lengths) != 1:
            raise ValueError(f"SSDAnchorGenerator needs one entry of every list for each level, not {sorted(lengths)}")
        self.strides = tuple((s, s) for s in strides)
        levels = zip(strides, ratios, min_sizes, max_sizes, strict=True)
        bases = [_base_anchors(*level, legacy=legacy) for level in levels]
        self.cell_priors = tuple(len(base) for base in bases)
        self.register_buffer("base_anchors", torch.cat(bases), persistent=False)  # [sum of A, 4]

    base_anchors: Tensor

    def forward(self, level_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Anchors [P, 4], float32 xyxy, of levels of (H, W) cells."""
        return self._grid(self.base_anchors.float(), level_sizes)

    def valid(self, level_sizes: Sequence[tuple[int, int]], padded_sizes: Tensor) -> Tensor:
        """Which anchors have their cell inside the padded size [B, 2] of their own image: bool [B, P]."""
        corners = self._grid(torch.zeros_like(self.base_anchors), level_sizes)  # the cells' x, y, x, y
        width, height = padded_sizes[:, 1, None], padded_sizes[:, 0, None]
        return (corners[:, 0] < width) & (corners[:, 1] < height)

    def _grid(self, base: Tensor, level_sizes: Sequence[tuple[int, int]]) -> Tensor:
        if len(level_sizes) != len(self.strides):
            raise ValueError(f"SSDAnchorGenerator has {len(self.strides)} strides for {len(level_sizes)} levels")
        levels = zip(base.split(self.cell_priors), level_sizes, self.strides, strict=True)
        return torch.cat([ops.grid_anchors(part[None], [size], [stride]) for part, size, stride in levels])


def _known_sizes(input_size: int, ratio_range: tuple[float, float], num_levels: int) -> tuple[list[int], list[int]]:
    """Smallest and largest sizes of each level, in whole pixels as the releases of SSD have them."""
    low, high = (int(ratio * 100) for ratio in ratio_range)
    first = FIRST_SIZES.get((input_size, low))
    if first is None:
        known = ", ".join(f"{size} with {ratio / 100}" for size, ratio in FIRST_SIZES)
        raise ValueError(
            f"sizes of SSD anchors for input_size {input_size} with a smallest ratio of {ratio_range[0]} are not known "
            f"({known} are): give min_sizes and max_sizes"
        )
    step = (high - low) // (num_levels - 2)
    ratios = range(low, high + 1, step)
    min_sizes = [input_size * r // 100 for r in (first[0], *ratios)]
    max_sizes = [input_size * r // 100 for r in (first[1], *(ratio + step for ratio in ratios))]
    return min_sizes, max_sizes


def _base_anchors(stride: float, ratios: Sequence[float], min_size: float, max_size: float, *, legacy: bool) -> Tensor:
    """Anchors [A, 4] of cell (0, 0)."""
    # made on the CPU even under another default device: values must be real for what follows
    shapes = torch.tensor(
        [1.0, 1.0, *(v for r in ratios for v in (1 / r, r))], dtype=torch.float32, device="cpu"
    ).sqrt()
    scales = torch.ones(len(shapes), device="cpu")
    scales[1] = math.sqrt(max_size / min_size)
    widths, heights = min_size * scales * (1 / shapes), min_size * scales * shapes
    center = (stride - legacy) / 2
    anchors = torch.stack(
        (center - 0.5 * widths, center - 0.5 * heights, center + 0.5 * widths, center + 0.5 * heights), dim=-1
    )
    return with_last_pixel_inside(anchors) if legacy else anchors
