"""Layers of the YOLOX and RTMDet networks: cross-stage partial blocks, pooling pyramids.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.layers.activation import ActFactory
from fastdet.models.layers.conv_module import ConvFactory, ConvModule, DepthwiseSeparableConv
from fastdet.models.layers.norm import NormFactory


class CSPBlock(nn.Module):
    """A 1x1 and a 3x3 convolution; or a 3x3 and a separable 5x5 one; added to the input if asked.

    Keys: conv1, conv2. Source: Ge et al., YOLOX; Lyu et al., RTMDet, section 3.2 (large kernels).

    Args:
        large_kernel: the second pair.
        use_depthwise: plain 3x3 convolutions are separable ones.
    """

    def __init__(
        self,
        channels: int,
        *,
        add_identity: bool,
        use_depthwise: bool,
        large_kernel: bool,
        conv: ConvFactory | None,
        norm: NormFactory,
        act: ActFactory,
    ) -> None:
        super().__init__()
        layer = DepthwiseSeparableConv if use_depthwise else ConvModule
        self.add_identity = add_identity
        self.conv1: nn.Module
        self.conv2: nn.Module
        if large_kernel:
            self.conv1 = layer(channels, channels, 3, padding=1, conv=conv, norm=norm, act=act)
            self.conv2 = DepthwiseSeparableConv(channels, channels, 5, padding=2, conv=conv, norm=norm, act=act)
        else:
            self.conv1 = ConvModule(channels, channels, 1, conv=conv, norm=norm, act=act)
            self.conv2 = layer(channels, channels, 3, padding=1, conv=conv, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        out = self.conv2(self.conv1(x))
        return out + x if self.add_identity else out


class ChannelAttention(nn.Module):
    """Channels weighted by what their means say. Key: fc."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x * self.act(self.fc(x.mean((2, 3), keepdim=True)))


class CSPLayer(nn.Module):
    """Blocks on one half of the channels, the other half passes by. Keys: main_conv, short_conv, final_conv, blocks.i.

    Source: Wang et al., CSPNet, section 3.2.

    Args:
        expand_ratio: channels of each half over `out_channels`.
        num_blocks, add_identity, use_depthwise, large_kernel: of the blocks.
        channel_attention: weights the joined halves; key attention.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_blocks: int,
        norm: NormFactory,
        act: ActFactory,
        conv: ConvFactory | None = None,
        expand_ratio: float = 0.5,
        add_identity: bool = True,
        use_depthwise: bool = False,
        large_kernel: bool = False,
        channel_attention: bool = False,
    ) -> None:
        super().__init__()
        width = int(out_channels * expand_ratio)
        self.main_conv = ConvModule(in_channels, width, 1, conv=conv, norm=norm, act=act)
        self.short_conv = ConvModule(in_channels, width, 1, conv=conv, norm=norm, act=act)
        self.final_conv = ConvModule(2 * width, out_channels, 1, conv=conv, norm=norm, act=act)
        self.blocks = nn.Sequential(
            *(
                CSPBlock(
                    width,
                    add_identity=add_identity,
                    use_depthwise=use_depthwise,
                    large_kernel=large_kernel,
                    conv=conv,
                    norm=norm,
                    act=act,
                )
                for _ in range(num_blocks)
            )
        )
        self.attention = ChannelAttention(2 * width) if channel_attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H, W]."""
        halves = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), 1)
        return self.final_conv(self.attention(halves))


class PoolingPyramid(nn.Module):
    """Maxima over squares of several sizes, beside the map itself. Keys: conv1, conv2.

    Source: He et al., Spatial Pyramid Pooling, as YOLOv3-SPP uses it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_sizes: Sequence[int],
        norm: NormFactory,
        act: ActFactory,
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        width = in_channels // 2
        self.conv1 = ConvModule(in_channels, width, 1, conv=conv, norm=norm, act=act)
        self.poolings = nn.ModuleList(nn.MaxPool2d(size, stride=1, padding=size // 2) for size in kernel_sizes)
        wide = width * (len(kernel_sizes) + 1)
        self.conv2 = ConvModule(wide, out_channels, 1, conv=conv, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H, W]."""
        x = self.conv1(x)
        return self.conv2(torch.cat((x, *(pooling(x) for pooling in self.poolings)), 1))
