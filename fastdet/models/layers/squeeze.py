"""Layers whose weights come from a map's means: channel gates and the dynamic ReLU.

Letters: B images, C channels, H and W cells.
"""

import torch
from torch import Tensor, nn

from fastdet.models.layers.activation import ActFactory
from fastdet.models.layers.conv_module import ConvModule


class ChannelGate(nn.Module):
    """Squeeze and excitation: channels are weighted by what the means of all of them say. Keys: conv1.conv, conv2.conv.

    Source: Hu et al., Squeeze-and-Excitation Networks, section 3.

    Args:
        width: channels between the two convolutions.
        act: the activation between them.
        weigh: the activation that gives the weights.
    """

    def __init__(
        self, channels: int, width: int, *, act: ActFactory | bool = True, weigh: ActFactory = nn.Sigmoid
    ) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, width, 1, act=act)
        self.conv2 = ConvModule(width, channels, 1, act=weigh)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x * self.conv2(self.conv1(x.mean((2, 3), keepdim=True)))


class DynamicReLU(nn.Module):
    """The larger of two lines for each channel, their slopes and offsets predicted from the means.

    With predictions of 0 it is an ordinary ReLU but for its negative half, which is 0 times x. Keys: conv1.conv,
    conv2.conv.
    Source: Chen et al., Dynamic ReLU, section 3.2, as Dai et al., Dynamic Head, section 3.3 use it: predictions lie in
    [-1/2, 1/2], slopes in [0, 2] and [-1, 1], offsets in [-1/2, 1/2].
    """

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels // ratio, 1)
        self.conv2 = ConvModule(channels // ratio, 4 * channels, 1, act=nn.Hardsigmoid)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        predicted = self.conv2(self.conv1(x.mean((2, 3), keepdim=True))) - 0.5
        first_slope, first_offset, second_slope, second_offset = predicted.chunk(4, 1)
        return torch.maximum(x * (1 + 2 * first_slope) + first_offset, x * (2 * second_slope) + second_offset)
