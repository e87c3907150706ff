"""Cells that merge two maps of different resolution into one, as searched pyramids are made of.

Letters: B images, C channels, H and W cells.
"""

import math
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers import ConvModule, NormFactory

Merge = Callable[[Tensor, Tensor], Tensor]


def add(first: Tensor, second: Tensor) -> Tensor:
    """The sum of two maps [B, C, H, W]."""
    return first + second


def attend(first: Tensor, second: Tensor) -> Tensor:
    """The second map [B, C, H, W] and the first one's channels, as far as the second one's means open them."""
    return second + second.mean((2, 3), keepdim=True).sigmoid() * first


class MergeCell(nn.Module):
    """Brings two maps to one size and merges them. Key: out_conv, if there is one.

    Source: Ghiasi et al., NAS-FPN, section 3.1.2.

    Args:
        channels: of the maps; None for a cell without a convolution.
        merge: what is done with the two.
        norm: of the ReLU, 3x3 convolution and norm after it.
    """

    def __init__(self, merge: Merge, channels: int | None = None, norm: NormFactory | None = None) -> None:
        super().__init__()
        self.merge = merge
        self.out_conv = (
            ConvModule(channels, channels, 3, padding=1, bias=True, norm=norm, order=("act", "conv", "norm"))
            if channels is not None
            else nn.Identity()
        )

    def forward(self, first: Tensor, second: Tensor, size: Sequence[int]) -> Tensor:
        """Two maps [B, C, H, W] as one of a size (H, W)."""
        return self.out_conv(self.merge(resize(first, size), resize(second, size)))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest cells for a larger size; for a smaller one maxima over squares, zeros around them if they do not fit."""
    height, width = x.shape[2:]
    if (height, width) == tuple(size):
        return x
    if (height, width) < tuple(size):
        return F.interpolate(x, size=tuple(size), mode="nearest")
    down, right = (math.ceil(old / new) * new - old for old, new in zip((height, width), size, strict=True))
    if down or right:
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
    kernel = (x.shape[2] // size[0], x.shape[3] // size[1])
    return F.max_pool2d(x, kernel, stride=kernel)
