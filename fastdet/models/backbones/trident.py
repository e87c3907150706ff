"""TridentNet's bottlenecks: branches of several dilations that share their weights.

Letters: B images, T branches, C channels, H and W cells.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.backbones.blocks import BlockFactory, BlockLayers, ResidualBlock, make_plugins
from fastdet.registry import LAYERS

LAST_STAGE = 2  # the network has three stages, the last one has branches


class TridentConv(nn.Module):
    """A 3x3 convolution with a dilation for each branch, the branches along the batch. Key: weight.

    While training, or with `test_branch_idx` -1, there are T branches; otherwise one of them.
    Source: Li et al., Scale-Aware Trident Networks, section 3.2.

    Args:
        splits: whether the batch that comes in holds the branches already, or the images that all of them read.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilations: Sequence[int],
        test_branch_idx: int,
        splits: bool,
    ) -> None:
        super().__init__()
        self.stride, self.dilations, self.test_branch_idx = stride, tuple(dilations), test_branch_idx
        self.splits = splits
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], or [T * B, C, H, W] if it splits, -> [T * B, C', H', W']."""
        every = self.training or self.test_branch_idx == -1
        dilations = self.dilations if every else self.dilations[self.test_branch_idx :][:1]
        parts = x.chunk(len(dilations)) if self.splits else [x] * len(dilations)
        return torch.cat(
            [
                F.conv2d(part, self.weight, None, self.stride, dilation, dilation)
                for part, dilation in zip(parts, dilations, strict=True)
            ]
        )


class Branches(nn.Module):
    """The batch once for each branch that runs."""

    def __init__(self, branches: int, test_branch_idx: int) -> None:
        super().__init__()
        self.branches, self.test_branch_idx = branches, test_branch_idx

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [T * B, C, H, W]."""
        every = self.training or self.test_branch_idx == -1
        return x.repeat(self.branches, 1, 1, 1) if every else x


@LAYERS.register("TridentBottleneck")
def trident_bottleneck(trident_dilations: Sequence[int] = (1, 2, 3), test_branch_idx: int = 1) -> BlockFactory:
    """Bottlenecks that are plain ones up to the last stage, and have branches there.

    Raises:
        ValueError: a branch that is not there.
    """
    if not -1 <= test_branch_idx < len(trident_dilations):
        raise ValueError(f"test_branch_idx must be -1 to {len(trident_dilations) - 1}, not {test_branch_idx}")

    def make(
        in_channels: int, channels: int, stride: int, dilation: int, layers: BlockLayers, shortcut: nn.Module | None
    ) -> ResidualBlock:
        first, second = layers.strides(stride)
        conv, norm, spatial = layers.conv, layers.norm, layers.spatial or layers.conv
        middle: nn.Module
        if layers.stage == LAST_STAGE:
            middle = TridentConv(
                channels,
                channels,
                stride=second,
                dilations=trident_dilations,
                test_branch_idx=test_branch_idx,
                splits=shortcut is None,
            )
            if shortcut is not None:
                shortcut = nn.Sequential(*shortcut.children(), Branches(len(trident_dilations), test_branch_idx))
        else:
            middle = spatial(channels, channels, 3, stride=second, padding=dilation, dilation=dilation, bias=False)
        convs = (
            (conv(in_channels, channels, 1, stride=first, bias=False), norm(channels)),
            (middle, norm(channels)),
            (conv(channels, channels * 4, 1, bias=False), norm(channels * 4)),
        )
        plugins = make_plugins(layers.plugins, (channels, channels, channels * 4))
        return ResidualBlock(convs, norm.name, shortcut, plugins)

    return BlockFactory(make, 4)
