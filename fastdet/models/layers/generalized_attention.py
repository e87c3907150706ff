"""GeneralizedAttention: attention over cells with content and relative position as separate terms.

Letters: B images, M heads, D channels of a head, H and W cells of queries, h and w those of keys.
"""

import math

import torch
from torch import Tensor, nn

from fastdet.models.layers.init import keep_init
from fastdet.models.layers.plugin import PluginFactory
from fastdet.registry import LAYERS

WAVE_LENGTH = 1000.0  # of the slowest position feature


class GeneralizedAttention(nn.Module):
    """Attention of every cell to every `kv_stride`-th one, added to the map; it starts as the identity.

    Keys: query_conv, key_conv, value_conv, appr_geom_fc_x, appr_geom_fc_y, appr_bias, geom_bias, proj_conv, gamma, as
    far as the terms need them. Quirk kept for parity: where queries ask for positions and the term of positions alone
    is not used, the vertical distances are asked for by the mirrored cell (row and column swapped), as MMCV does it and
    GRoIE was trained with. Such maps must be square.
    Source: Zhu et al., An Empirical Study of Spatial Attention Mechanisms in Deep Networks, section 3.1.

    Args:
        attention_type: four digits, 1 for a term that is used: query and key content; query content and relative
            position; key content alone; relative position alone.
        position_embedding_dim: width of the position features; -1 for `in_channels`.
        position_magnitude: factor of the distances.

    Raises:
        ValueError: another attention_type.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_heads: int = 9,
        attention_type: str = "1111",
        kv_stride: int = 2,
        position_embedding_dim: int = -1,
        position_magnitude: float = 1.0,
    ) -> None:
        super().__init__()
        if len(attention_type) != 4 or not set(attention_type) <= {"0", "1"} or "1" not in attention_type:
            raise ValueError(f"attention_type must be four digits of 0 and 1, one of them 1, not {attention_type!r}")
        self.content, self.content_position, self.key_alone, self.position_alone = (d == "1" for d in attention_type)
        self.num_heads = num_heads
        self.head_width = in_channels // num_heads
        self.kv_stride = kv_stride
        self.position_width = position_embedding_dim if position_embedding_dim > 0 else in_channels
        self.position_magnitude = position_magnitude
        width = self.head_width * num_heads
        bound = 1 / math.sqrt(2 * self.head_width)
        if self.content or self.content_position:
            self.query_conv = nn.Conv2d(in_channels, width, 1, bias=False)
        if self.content or self.key_alone:
            self.key_conv = nn.Conv2d(in_channels, width, 1, bias=False)
        self.value_conv = nn.Conv2d(in_channels, width, 1, bias=False)
        if self.content_position or self.position_alone:
            self.appr_geom_fc_x = nn.Linear(self.position_width // 2, width, bias=False)
            self.appr_geom_fc_y = nn.Linear(self.position_width // 2, width, bias=False)
        if self.key_alone:
            self.appr_bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        if self.position_alone:
            self.geom_bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        self.proj_conv = nn.Conv2d(width, in_channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, a=1)
        assert self.proj_conv.bias is not None
        nn.init.zeros_(self.proj_conv.bias)
        keep_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        coarse = x[:, :, :: self.kv_stride, :: self.kv_stride]
        value = self._heads(self.value_conv(coarse))  # [B, M, h * w, D]
        attention = self._energy(x, coarse).softmax(-1)  # [B, M, H * W or 1, h * w]
        out = torch.matmul(attention, value).transpose(2, 3).flatten(1, 2)  # [B, M * D, H * W or 1]
        rows, columns = x.shape[2:] if out.shape[2] != 1 else (1, 1)
        return x + self.gamma * self.proj_conv(out.unflatten(2, (rows, columns)))

    def _energy(self, x: Tensor, coarse: Tensor) -> Tensor:
        """How much each query asks for each key; one row for all queries if the term of the keys alone is used."""
        query = self._heads(self.query_conv(x)) if self.content or self.content_position else None
        terms = []
        if self.content or self.key_alone:
            asked = query if self.content else None
            if self.key_alone:
                bias = self.appr_bias.view(1, self.num_heads, 1, self.head_width)
                asked = bias if asked is None else asked + bias
            assert asked is not None
            terms.append(torch.matmul(asked, self._heads(self.key_conv(coarse)).transpose(2, 3)))
        if self.content_position or self.position_alone:
            asked = query if self.content_position else None
            if self.position_alone:
                bias = self.geom_bias.view(1, self.num_heads, 1, self.head_width)
                asked = bias if asked is None else asked + bias
            assert asked is not None
            terms.append(self._position_energy(asked, x, coarse))
        return sum(terms[1:], terms[0])

    def _position_energy(self, asked: Tensor, x: Tensor, coarse: Tensor) -> Tensor:
        """[B or 1, M, H * W, h * w] of what is asked, [B or 1, M, H * W or 1, D]."""
        (rows, columns), (key_rows, key_columns) = x.shape[2:], coarse.shape[2:]
        along_x = self._position_features(self.appr_geom_fc_x, columns, key_columns, x)  # [M, W, w, D]
        along_y = self._position_features(self.appr_geom_fc_y, rows, key_rows, x)  # [M, H, h, D]
        grid = asked.expand(-1, -1, rows * columns, -1).unflatten(2, (rows, columns))  # [B, M, H, W, D]
        energy_x = torch.einsum("bmyxd,mxkd->bmyxk", grid, along_x)
        if self.content_position and not self.position_alone:
            if rows != columns:
                raise ValueError(
                    f"attention_type with queries asking for positions alone needs square maps, not {rows} x {columns}"
                    "\n  add the term of the positions alone: '0101' instead of '0100'"
                )
            grid = grid.transpose(2, 3)
        energy_y = torch.einsum("bmyxd,mykd->bmyxk", grid, along_y)
        return (energy_y.unsqueeze(5) + energy_x.unsqueeze(4)).flatten(4, 5).flatten(2, 3)

    def _position_features(self, layer: nn.Linear, queries: int, keys: int, like: Tensor) -> Tensor:
        """Features of the distances along one axis, [M, queries, keys, D]."""

        def count(end: int) -> Tensor:
            return torch.arange(end, device=like.device, dtype=like.dtype)

        distance = (count(queries)[:, None] - count(keys) * self.kv_stride) * self.position_magnitude
        steps = count(self.position_width // 4) * (4 / self.position_width)
        phase = distance.unsqueeze(2) / WAVE_LENGTH**steps
        features = layer(torch.cat((phase.sin(), phase.cos()), 2)) / math.sqrt(2)
        return features.unflatten(2, (self.num_heads, self.head_width)).permute(2, 0, 1, 3)

    def _heads(self, x: Tensor) -> Tensor:
        """[B, M * D, H, W] -> [B, M, H * W, D]."""
        return x.flatten(2).unflatten(1, (self.num_heads, self.head_width)).transpose(2, 3)


@LAYERS.register("GeneralizedAttention")
def generalized_attention(
    num_heads: int = 9,
    attention_type: str = "1111",
    kv_stride: int = 2,
    position_embedding_dim: int = -1,
    position_magnitude: float = 1.0,
) -> PluginFactory:
    """The factory of generalized attention."""
    return PluginFactory(
        "gen_attention_block",
        lambda channels: GeneralizedAttention(
            channels,
            num_heads=num_heads,
            attention_type=attention_type,
            kv_stride=kv_stride,
            position_embedding_dim=position_embedding_dim,
            position_magnitude=position_magnitude,
        ),
    )
