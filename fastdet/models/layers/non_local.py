"""NonLocal2d: every cell gets a weighted sum of all cells.

Letters: B images, C channels, H and W cells.
"""

import torch
from torch import Tensor, nn

from fastdet.models.layers.conv_module import ConvFactory, ConvModule
from fastdet.models.layers.init import init_normal, keep_init
from fastdet.models.layers.norm import NormFactory


class NonLocal2d(nn.Module):
    """Embedded-Gaussian attention of every cell to every cell, added to the map; it starts as the identity.

    Keys: g, theta, phi, conv_out (each a ConvModule).
    Source: Wang et al., Non-local Neural Networks, section 3.3.

    Args:
        reduction: the channels inside are the map's over this.
        use_scale: whether similarities are divided by the root of the channels inside.
        norm: of the last convolution.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        reduction: int = 2,
        use_scale: bool = True,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        width = max(in_channels // reduction, 1)
        self.scale = width**-0.5 if use_scale else 1.0
        self.g = ConvModule(in_channels, width, 1, conv=conv, act=False)
        self.conv_out = ConvModule(width, in_channels, 1, conv=conv, norm=norm, act=False)
        self.theta = ConvModule(in_channels, width, 1, conv=conv, act=False)
        self.phi = ConvModule(in_channels, width, 1, conv=conv, act=False)
        init_normal(self, 0.01)
        last = self.conv_out.norm or self.conv_out.conv
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        keep_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        query, key, value = (conv(x).flatten(2) for conv in (self.theta, self.phi, self.g))  # [B, C', H * W]
        weights = (torch.matmul(query.transpose(1, 2), key) * self.scale).softmax(-1)  # [B, H * W, H * W]
        gathered = torch.matmul(value, weights.transpose(1, 2))
        return x + self.conv_out(gathered.unflatten(2, x.shape[2:]))
