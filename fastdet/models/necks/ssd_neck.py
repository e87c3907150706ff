"""SSDNeck: ever coarser levels behind a backbone.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.layers import (
    ActFactory,
    ConvFactory,
    ConvModule,
    DepthwiseSeparableConv,
    Initialiser,
    NormFactory,
    init_xavier,
)
from fastdet.registry import NECKS


class L2Norm(nn.Module):
    """Scales each cell to length 1, then each channel by a learnt factor. Key: weight.

    Source: Liu et al., ParseNet, section 3.3.
    """

    def __init__(self, channels: int, scale: float, eps: float = 1e-10) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(scale)))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]; computes in float32."""
        wide = x.float()
        length = wide.square().sum(1, keepdim=True).sqrt() + self.eps
        return (self.weight.float()[:, None, None] * wide / length).to(x.dtype)


@NECKS.register()
class SSDNeck(nn.Module):
    """The backbone's levels as they are, then extra ones: a 1x1 and a 3x3 convolution each.

    Convolutions start from Glorot's uniform distribution. Keys: l2_norm.weight, extra_layers.i.j.
    Source: Liu et al., SSD, figure 2.

    Args:
        in_channels: of each level that comes in.
        out_channels: of each level that goes out; the first ones are `in_channels`.
        level_strides, level_paddings: of each extra level's 3x3 convolution.
        l2_norm_scale: the first level is normalised, and starts at this length; None: it is not.
        last_kernel_size: of the last convolution.
        use_depthwise: 3x3 convolutions are separable ones.
        init: initialises the convolutions in another way.

    Raises:
        ValueError: lists that do not fit.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        level_strides: Sequence[int],
        level_paddings: Sequence[int],
        *,
        l2_norm_scale: float | None = 20.0,
        last_kernel_size: int = 3,
        use_depthwise: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        act: ActFactory | bool = True,
        init: Initialiser | None = None,
    ) -> None:
        super().__init__()
        extra = len(out_channels) - len(in_channels)
        if extra < 1 or list(out_channels[: len(in_channels)]) != list(in_channels):
            raise ValueError(
                f"out_channels must be in_channels {tuple(in_channels)} and more, not {tuple(out_channels)}"
            )
        if len(level_strides) != extra or len(level_paddings) != extra:
            raise ValueError(
                f"level_strides and level_paddings need a value for each of the {extra} extra levels, not "
                f"{tuple(level_strides)} and {tuple(level_paddings)}"
            )
        self.l2_norm = L2Norm(in_channels[0], l2_norm_scale) if l2_norm_scale else nn.Identity()
        second = DepthwiseSeparableConv if use_depthwise else ConvModule
        widths = out_channels[len(in_channels) - 1 :]
        self.extra_layers = nn.ModuleList()
        for i, (stride, padding) in enumerate(zip(level_strides, level_paddings, strict=True)):
            half, size = widths[i + 1] // 2, last_kernel_size if i == extra - 1 else 3
            self.extra_layers.append(
                nn.Sequential(
                    ConvModule(widths[i], half, 1, conv=conv, norm=norm, act=act),
                    second(half, widths[i + 1], size, stride=stride, padding=padding, conv=conv, norm=norm, act=act),
                )
            )
        (init or init_xavier)(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The levels and the extra ones, finest first."""
        outs = [self.l2_norm(levels[0]), *levels[1:]]
        x = levels[-1]
        for layer in self.extra_layers:
            x = layer(x)
            outs.append(x)
        return tuple(outs)
