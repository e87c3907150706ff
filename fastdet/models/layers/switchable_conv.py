"""SAC: a convolution that switches between two dilations cell by cell.

Letters: B images, C channels, H and W cells.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers.conv_module import ConvFactory
from fastdet.models.layers.init import keep_init
from fastdet.models.layers.standardised_conv import ConvAWS2d
from fastdet.ops import deform_conv2d
from fastdet.registry import LAYERS

SPREAD = 3  # the large dilation over the small one
SWITCH_SIDE = 5  # of the means that the switch looks at
OFFSETS = 18  # an offset (y, x) for each of the 3 x 3 cells


class SwitchableConv2d(ConvAWS2d):
    """Two convolutions of different dilation, mixed by a switch, between two additions of a global context.

    Their weights differ by `weight_diff`. At the start the switch takes the small dilation alone, and contexts and
    offsets are 0. Keys: weight, weight_gamma, weight_beta, weight_diff, switch, pre_context, post_context, offset_s,
    offset_l.
    Source: Qiao et al., DetectoRS, section 4.

    Args:
        use_deform: whether both convolutions are deformable.

    Raises:
        ValueError: another kernel than 3 x 3; a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        use_deform: bool = False,
    ) -> None:
        if kernel_size != 3 or bias:
            raise ValueError(f"SAC is a 3x3 convolution without bias, not {kernel_size}x{kernel_size}, bias={bias}")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.use_deform = use_deform
        self.weight_diff = nn.Parameter(torch.zeros_like(self.weight))
        self.switch = _zero_conv(in_channels, 1, 1, stride)
        assert self.switch.bias is not None
        nn.init.ones_(self.switch.bias)
        self.pre_context = _zero_conv(in_channels, in_channels, 1)
        self.post_context = _zero_conv(out_channels, out_channels, 1)
        if use_deform:
            self.offset_s = _zero_conv(in_channels, OFFSETS, 3, stride)
            self.offset_l = _zero_conv(in_channels, OFFSETS, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        x = x + self.pre_context(x.mean((2, 3), keepdim=True))
        margin = SWITCH_SIDE // 2
        means = F.avg_pool2d(F.pad(x, [margin] * 4, mode="reflect"), SWITCH_SIDE, stride=1)
        switch = self.switch(means)
        weight = self.standardised()
        near = self._convolve(x, weight, 1, self.offset_s(means) if self.use_deform else None)
        far = self._convolve(x, weight + self.weight_diff, SPREAD, self.offset_l(means) if self.use_deform else None)
        out = switch * near + (1 - switch) * far
        return out + self.post_context(out.mean((2, 3), keepdim=True))

    def _convolve(self, x: Tensor, weight: Tensor, spread: int, offset: Tensor | None) -> Tensor:
        padding = tuple(int(size) * spread for size in self.padding)
        dilation = tuple(size * spread for size in self.dilation)
        if offset is None:
            return F.conv2d(x, weight, None, self.stride, padding, dilation, self.groups)
        steps, margins, gaps = ((int(pair[0]), int(pair[1])) for pair in (self.stride, padding, dilation))
        return deform_conv2d(x, offset, weight, None, steps, margins, gaps)


def _zero_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2)
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    keep_init(conv)
    return conv


@LAYERS.register("SAC")
def switchable_conv(use_deform: bool = False) -> ConvFactory:
    """The factory of switchable convolutions."""
    return partial(SwitchableConv2d, use_deform=use_deform)
