"""CARAFE: upsampling with a small kernel for every cell, predicted from the map.

Letters: B images, C channels, G groups, H and W cells, K kernel cells, S the factor.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers.init import init_normal, init_xavier, keep_init
from fastdet.registry import LAYERS

UpsampleFactory = Callable[[int, int], nn.Module]
"""Makes a layer that enlarges maps of that many channels by that factor."""

ENCODER_DEVIATION = 0.001  # of the convolution that predicts kernels, so that these start as plain means


def reassemble(x: Tensor, kernels: Tensor, size: int, groups: int, factor: int) -> Tensor:
    """Every fine cell as the weighted sum of the `size` x `size` cells around its coarse one; 0 beyond the border.

    One kernel cell after the other, so that memory stays at that of the output.

    Args:
        x: [B, C, H, W].
        kernels: the weights, [B, G * K, H * S, W * S]; each group of channels has its own.

    Returns:
        [B, C, H * S, W * S].
    """
    height, width = x.shape[2:]
    padded = F.pad(x, [size // 2] * 4).unflatten(1, (groups, -1))  # [B, G, C / G, H + size - 1, W + size - 1]
    weights = kernels.unflatten(1, (groups, size * size))
    weights = weights.unflatten(4, (width, factor)).unflatten(3, (height, factor))  # [B, G, K, H, S, W, S]
    out = torch.zeros((), dtype=x.dtype, device=x.device)
    for cell in range(size * size):
        down, right = divmod(cell, size)
        near = padded[..., down : down + height, right : right + width]
        out = out + near[:, :, :, :, None, :, None] * weights[:, :, None, cell]  # [B, G, C / G, H, S, W, S]
    return out.flatten(5, 6).flatten(3, 4).flatten(1, 2)


class CarafeUpsample(nn.Module):
    """Content-aware upsampling. Keys: channel_compressor, content_encoder.

    Source: Wang et al., CARAFE: Content-Aware ReAssembly of FEatures, section 3.

    Args:
        scale_factor: how much finer the output is.
        up_kernel, up_group: side of the kernels, and groups of channels with kernels of their own.
        encoder_kernel, encoder_dilation: of the convolution that predicts the kernels.
        compressed_channels: that it sees.
    """

    def __init__(
        self,
        channels: int,
        scale_factor: int,
        *,
        up_kernel: int = 5,
        up_group: int = 1,
        encoder_kernel: int = 3,
        encoder_dilation: int = 1,
        compressed_channels: int = 64,
    ) -> None:
        super().__init__()
        if up_kernel % 2 == 0 or channels % up_group:
            raise ValueError(
                f"up_kernel must be odd and up_group divide the channels, not {up_kernel}, and {up_group} of {channels}"
            )
        self.scale_factor, self.up_kernel, self.up_group = scale_factor, up_kernel, up_group
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            compressed_channels,
            up_kernel**2 * up_group * scale_factor**2,
            encoder_kernel,
            padding=(encoder_kernel - 1) * encoder_dilation // 2,
            dilation=encoder_dilation,
        )
        init_xavier(self.channel_compressor)
        init_normal(self.content_encoder, ENCODER_DEVIATION)
        keep_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H * S, W * S]."""
        predicted = F.pixel_shuffle(self.content_encoder(self.channel_compressor(x)), self.scale_factor)
        kernels = predicted.unflatten(1, (self.up_group, -1)).softmax(2).flatten(1, 2)  # [B, G * K, H * S, W * S]
        return reassemble(x, kernels, self.up_kernel, self.up_group, self.scale_factor)


@LAYERS.register("Carafe")
def carafe_upsample(
    up_kernel: int = 5,
    up_group: int = 1,
    encoder_kernel: int = 3,
    encoder_dilation: int = 1,
    compressed_channels: int = 64,
) -> UpsampleFactory:
    """The factory of content-aware upsampling."""
    return partial(
        CarafeUpsample,
        up_kernel=up_kernel,
        up_group=up_group,
        encoder_kernel=encoder_kernel,
        encoder_dilation=encoder_dilation,
        compressed_channels=compressed_channels,
    )
