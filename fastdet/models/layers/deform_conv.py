"""Deformable convolutions: cells are read where predicted offsets say.

Letters: B images, C channels, G deformable groups, K kernel cells, H and W cells.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from fastdet.models.layers.conv_module import ConvFactory
from fastdet.models.layers.init import keep_init
from fastdet.ops import deform_conv2d
from fastdet.registry import LAYERS


class DeformConv2d(nn.Module):
    """A deformable convolution whose offsets come from outside. Keys: weight, and bias if there is one.

    Source: Dai et al., Deformable Convolutional Networks, section 2.1.

    Args:
        deform_groups: groups of input channels that have offsets of their own.

    Raises:
        ValueError: groups that do not divide the channels.
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
        deform_groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups or in_channels % deform_groups:
            raise ValueError(
                f"groups ({groups}) and deform_groups ({deform_groups}) must divide the channels ({in_channels} in, "
                f"{out_channels} out)"
            )
        self.kernel_size = (kernel_size, kernel_size)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W'].

        Args:
            offset: [B, G * K * 2, H', W'], in cells, y before x for each cell of the kernel.
            mask: factors of the cells, [B, G * K, H', W']; None for 1.
        """
        return deform_conv2d(x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask)


class DeformConv2dPack(nn.Module):
    """A deformable convolution that predicts its offsets, which start at 0. Keys: weight, conv_offset.

    Stands where a plain convolution without bias stands. Source: as DeformConv2d.

    Raises:
        ValueError: a bias was asked for.
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
        deform_groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if bias:
            raise ValueError("a DCN convolution has no bias; give the layer a norm, or use DCNv2")
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.conv_offset = _offset_conv(
            in_channels, 2 * deform_groups * kernel_size**2, kernel_size, stride, padding, dilation
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        return deform_conv2d(x, self.conv_offset(x), self.weight, None, self.stride, self.padding, self.dilation)


class ModulatedDeformConv2dPack(nn.Module):
    """A deformable convolution that predicts its offsets and a factor for each cell. Keys: weight, bias, conv_offset.

    Offsets start at 0 and factors at 1/2. Source: Zhu et al., Deformable ConvNets v2, section 3.2.
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
        deform_groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        bound = 1 / math.sqrt(in_channels * kernel_size**2)
        nn.init.uniform_(self.weight, -bound, bound)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.conv_offset = _offset_conv(
            in_channels, 3 * deform_groups * kernel_size**2, kernel_size, stride, padding, dilation
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        predicted = self.conv_offset(x)  # [B, G * K * 3, H', W']: two thirds offsets, one third factors
        cells = predicted.shape[1] // 3
        offset, mask = predicted[:, : 2 * cells], predicted[:, 2 * cells :].sigmoid()
        return deform_conv2d(x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask)


def kernel_cells(kernel_size: int) -> Tensor:
    """Where a kernel's cells are around its centre, y before x, [1, K * 2, 1, 1]: offsets from there are positions."""
    steps = torch.arange(kernel_size, dtype=torch.float32, device="cpu") - kernel_size // 2
    return torch.cartesian_prod(steps, steps).view(1, -1, 1, 1)


def _offset_conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, dilation: int
) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation)
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    keep_init(conv)
    return conv


@LAYERS.register("DCN")
def deformable_conv(deform_groups: int = 1) -> ConvFactory:
    """The factory of deformable convolutions."""
    return partial(DeformConv2dPack, deform_groups=deform_groups)


@LAYERS.register("DCNv2")
def modulated_deformable_conv(deform_groups: int = 1) -> ConvFactory:
    """The factory of modulated deformable convolutions."""
    return partial(ModulatedDeformConv2dPack, deform_groups=deform_groups)
