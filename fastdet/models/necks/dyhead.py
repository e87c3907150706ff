"""DyHead: attention across levels, cells and channels.

Letters: B images, C channels, H and W cells, K = 9 kernel cells.
"""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers import DeformConv2d, init_normal
from fastdet.models.layers.norm import group_norm
from fastdet.models.layers.squeeze import DynamicReLU
from fastdet.registry import NECKS

OFFSETS, FACTORS = 18, 9  # for the cells of a 3 x 3 kernel
NORM_GROUPS = 16
DEVIATION = 0.01  # of the initial weights


class DeformedNorm(nn.Module):
    """A deformable convolution with a norm. Keys: conv, norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = DeformConv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        bound = 1 / math.sqrt(9 * in_channels)
        nn.init.uniform_(self.conv.weight, -bound, bound)
        self.norm = group_norm(NORM_GROUPS)(out_channels)

    def forward(self, x: Tensor, offset: Tensor, factors: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        return self.norm(self.conv(x, offset, factors))


class DyHeadBlock(nn.Module):
    """Each level with its neighbours, all read where the level's own offsets say, weighted and summed.

    Keys: spatial_conv_high, spatial_conv_mid, spatial_conv_low, spatial_conv_offset, scale_attn_module.1,
    task_attn_module.
    Source: Dai et al., Dynamic Head, section 3.

    Args:
        zero_init_offset: whether offsets start at 0.
    """

    def __init__(self, in_channels: int, out_channels: int, zero_init_offset: bool) -> None:
        super().__init__()
        self.spatial_conv_high = DeformedNorm(in_channels, out_channels)
        self.spatial_conv_mid = DeformedNorm(in_channels, out_channels)
        self.spatial_conv_low = DeformedNorm(in_channels, out_channels, stride=2)
        self.spatial_conv_offset = nn.Conv2d(in_channels, OFFSETS + FACTORS, 3, padding=1)
        self.scale_attn_module = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(out_channels, 1, 1), nn.ReLU(), nn.Hardsigmoid()
        )
        self.task_attn_module = DynamicReLU(out_channels)
        init_normal(self, DEVIATION)
        if zero_init_offset:
            nn.init.zeros_(self.spatial_conv_offset.weight)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As many levels [B, C, H, W], finest first, as come in."""
        return tuple(self._level(levels, index) for index in range(len(levels)))

    def _level(self, levels: Sequence[Tensor], index: int) -> Tensor:
        x = levels[index]
        predicted = self.spatial_conv_offset(x)
        offset, factors = predicted[:, :OFFSETS], predicted[:, OFFSETS:].sigmoid()
        maps = [self.spatial_conv_mid(x, offset, factors)]
        if index > 0:
            maps.append(self.spatial_conv_low(levels[index - 1], offset, factors))
        if index < len(levels) - 1:
            coarse = levels[index + 1]
            high = self.spatial_conv_high(coarse, reread(offset, coarse), reread(factors, coarse))
            maps.append(F.interpolate(high, size=x.shape[2:], mode="bilinear", align_corners=True))
        weighted = [m * self.scale_attn_module(m) for m in maps]
        return self.task_attn_module(sum(weighted[1:], weighted[0]) / len(maps))


def reread(x: Tensor, coarse: Tensor) -> Tensor:
    """The first values of each image's offsets in memory order, taken as those of a coarser map.

    The authors' code and MMDetection hand the fine map's offsets to the coarse map's convolution, whose kernel reads
    them with the coarse map's strides. Checkpoints were trained with that.

    Returns:
        [B, C, H', W'] with the size of `coarse`.
    """
    channels, (height, width) = x.shape[1], coarse.shape[2:]
    return x.flatten(1)[:, : channels * height * width].unflatten(1, (channels, height, width))


@NECKS.register()
class DyHead(nn.Module):
    """Blocks of attention on levels of equal width. Key: dyhead_blocks.i.

    Convolutions start from a normal distribution of deviation 0.01.
    Source: Dai et al., Dynamic Head: Unifying Object Detection Heads with Attentions.

    Args:
        num_blocks: how often the levels go through attention.
        zero_init_offset: whether the deformable convolutions' offsets start at 0.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, num_blocks: int = 6, zero_init_offset: bool = True
    ) -> None:
        super().__init__()
        self.dyhead_blocks = nn.Sequential(
            *(
                DyHeadBlock(out_channels if index else in_channels, out_channels, zero_init_offset)
                for index in range(num_blocks)
            )
        )

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As many levels [B, out_channels, H, W], finest first, as come in."""
        return self.dyhead_blocks(tuple(levels))
