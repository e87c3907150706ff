"""The bottleneck of ResNeSt: its 3x3 convolution gives several maps, which attention over channels blends.

Letters: B images, C channels, R maps (the radix), G groups, H and W cells.
"""

import torch
from torch import Tensor, nn

from fastdet.models.backbones.blocks import BlockFactory, BlockLayers, ResidualBlock, grouped_width, make_plugins
from fastdet.models.layers import ConvFactory, NormFactory
from fastdet.registry import LAYERS

MIN_WIDTH = 32  # of the attention's hidden layer


class SplitAttentionConv(nn.Module):
    """A convolution that gives `radix` maps, blended with weights that depend on their mean over all cells.

    Keys: conv, bn0, fc1, bn1, fc2.
    Source: Zhang et al., ResNeSt, section 3.1.

    Args:
        pool_stride: of an average after the blend; 1 for none.
        reduction_factor: the hidden layer of the attention has radix * channels over this, 32 at the least.
    """

    def __init__(
        self,
        channels: int,
        *,
        stride: int,
        pool_stride: int,
        dilation: int,
        groups: int,
        radix: int,
        reduction_factor: int,
        conv: ConvFactory,
        norm: NormFactory,
    ) -> None:
        super().__init__()
        hidden = max(channels * radix // reduction_factor, MIN_WIDTH)
        self.radix, self.groups = radix, groups
        self.conv = conv(
            channels,
            channels * radix,
            3,
            stride=stride,
            padding=dilation,
            dilation=dilation,
            groups=groups * radix,
            bias=False,
        )
        self.norm_names = (f"{norm.name}0", f"{norm.name}1")
        self.add_module(self.norm_names[0], norm(channels * radix))
        self.fc1 = nn.Conv2d(channels, hidden, 1, groups=groups)
        self.add_module(self.norm_names[1], norm(hidden))
        self.fc2 = nn.Conv2d(hidden, channels * radix, 1, groups=groups)
        self.pool = nn.AvgPool2d(3, pool_stride, padding=1) if pool_stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H', W']."""
        x = torch.relu(self.get_submodule(self.norm_names[0])(self.conv(x)))
        maps = x.unflatten(1, (self.radix, -1))  # [B, R, C, H', W']
        mean = maps.sum(1).mean((2, 3), keepdim=True)  # [B, C, 1, 1]
        hidden = torch.relu(self.get_submodule(self.norm_names[1])(self.fc1(mean)))
        weights = self._weights(self.fc2(hidden))
        return self.pool((maps * weights).sum(1))

    def _weights(self, scores: Tensor) -> Tensor:
        """[B, G * R * C / G, 1, 1], groups outermost, as weights [B, R, C, 1, 1]."""
        if self.radix == 1:
            return scores.sigmoid().unsqueeze(1)
        grouped = scores.flatten(1).unflatten(1, (self.groups, self.radix, -1))  # [B, G, R, C / G]
        return grouped.transpose(1, 2).softmax(1).flatten(2)[..., None, None]


@LAYERS.register("ResNeStBottleneck")
def resnest_bottleneck(
    groups: int = 1, base_width: int = 4, radix: int = 2, reduction_factor: int = 4, avg_down_stride: bool = True
) -> BlockFactory:
    """Bottlenecks of ResNeSt.

    Args:
        groups, base_width: as those of ResNeXt.
        radix, reduction_factor: of the split attention.
        avg_down_stride: an average after the convolution does the stride.
    """

    def make(
        in_channels: int, channels: int, stride: int, dilation: int, layers: BlockLayers, shortcut: nn.Module | None
    ) -> ResidualBlock:
        width = grouped_width(channels, groups, base_width, layers.base_channels)
        out_channels = channels * 4
        first, second = layers.strides(stride)
        conv, norm = layers.conv, layers.norm
        middle = SplitAttentionConv(
            width,
            stride=1 if avg_down_stride else second,
            pool_stride=second if avg_down_stride else 1,
            dilation=dilation,
            groups=groups,
            radix=radix,
            reduction_factor=reduction_factor,
            conv=layers.spatial or conv,
            norm=norm,
        )
        convs = (
            (conv(in_channels, width, 1, stride=first, bias=False), norm(width)),
            (middle, None),
            (conv(width, out_channels, 1, bias=False), norm(out_channels)),
        )
        return ResidualBlock(convs, norm.name, shortcut, make_plugins(layers.plugins, (width, width, out_channels)))

    return BlockFactory(make, 4)
