"""ContextBlock: every cell gets the same context, which attention gathers from the whole map.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fastdet.models.layers.init import keep_init
from fastdet.models.layers.plugin import PluginFactory
from fastdet.registry import LAYERS

Fusion = Literal["channel_add", "channel_mul"]


class ContextBlock(nn.Module):
    """A global context, added to or multiplied with all cells. It starts as the identity (for "channel_add").

    Keys: conv_mask, channel_add_conv.i, channel_mul_conv.i.
    Source: Cao et al., GCNet, section 4.3.

    Args:
        ratio: of the channels between the two convolutions of the transform to those of the map.
        pooling_type: "att" for learnt weights of cells, "avg" for equal ones.
        fusion_types: how the context meets the cells.

    Raises:
        ValueError: another pooling or fusion.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        ratio: float,
        pooling_type: Literal["att", "avg"] = "att",
        fusion_types: Sequence[Fusion] = ("channel_add",),
    ) -> None:
        super().__init__()
        if pooling_type not in ("att", "avg"):
            raise ValueError(f"pooling_type must be 'att' or 'avg', not {pooling_type!r}")
        if not fusion_types or not set(fusion_types) <= {"channel_add", "channel_mul"}:
            raise ValueError(f"fusion_types must be of 'channel_add' and 'channel_mul', not {tuple(fusion_types)}")
        width = int(in_channels * ratio)
        self.conv_mask = nn.Conv2d(in_channels, 1, 1) if pooling_type == "att" else None
        self.channel_add_conv = _transform(in_channels, width) if "channel_add" in fusion_types else None
        self.channel_mul_conv = _transform(in_channels, width) if "channel_mul" in fusion_types else None
        if self.conv_mask is not None:
            nn.init.kaiming_normal_(self.conv_mask.weight, mode="fan_in", nonlinearity="relu")
            assert self.conv_mask.bias is not None
            nn.init.zeros_(self.conv_mask.bias)
        keep_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        context = self._context(x)
        out = x
        if self.channel_mul_conv is not None:
            out = out * self.channel_mul_conv(context).sigmoid()
        if self.channel_add_conv is not None:
            out = out + self.channel_add_conv(context)
        return out

    def _context(self, x: Tensor) -> Tensor:
        """[B, C, 1, 1]."""
        if self.conv_mask is None:
            return x.mean((2, 3), keepdim=True)
        weights = self.conv_mask(x).flatten(2).softmax(2)  # [B, 1, H * W]
        return torch.matmul(x.flatten(2), weights.transpose(1, 2)).unsqueeze(3)


def _transform(channels: int, width: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.LayerNorm([width, 1, 1]), nn.ReLU(), nn.Conv2d(width, channels, 1)
    )
    nn.init.zeros_(layers.get_submodule("3").get_parameter("weight"))
    nn.init.zeros_(layers.get_submodule("3").get_parameter("bias"))
    return layers


@LAYERS.register("ContextBlock")
def context_block(
    ratio: float,
    pooling_type: Literal["att", "avg"] = "att",
    fusion_types: Sequence[Fusion] = ("channel_add",),
) -> PluginFactory:
    """The factory of context blocks."""
    return PluginFactory(
        "context_block",
        lambda channels: ContextBlock(channels, ratio=ratio, pooling_type=pooling_type, fusion_types=fusion_types),
    )
