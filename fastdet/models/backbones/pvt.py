"""PyramidVisionTransformer: attention of every cell to a coarser copy of its map. Maps inside are [B, H, W, C].

Letters: B images, C channels, H and W cells.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.backbones.swin import DEVIATION, init_linear
from fastdet.models.layers import ActFactory, NormFactory
from fastdet.models.layers.norm import layer_norm
from fastdet.models.layers.patches import PatchEmbedding
from fastdet.models.layers.stochastic_depth import depth_rates, drop_path
from fastdet.registry import BACKBONES

STRIDES = (4, 2, 2, 2)
PLAIN_PATCHES = ((4, 2, 2, 2), (0, 0, 0, 0))  # sides and paddings of patches that do not overlap
OVERLAPPING_PATCHES = ((7, 3, 3, 3), (3, 1, 1, 1))


class PositionEmbedding(nn.Module):
    """A learnt vector for each cell, stretched to the size of the map. Key: pos_embed."""

    def __init__(self, height: int, width: int, channels: int, drop_rate: float) -> None:
        super().__init__()
        self.size = (height, width)
        self.pos_embed = nn.Parameter(torch.empty(1, height * width, channels))
        nn.init.trunc_normal_(self.pos_embed, std=DEVIATION)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        learnt = self.pos_embed.unflatten(1, self.size).permute(0, 3, 1, 2)
        stretched = F.interpolate(learnt, size=x.shape[1:3], mode="bilinear")
        return self.drop(x + stretched.permute(0, 2, 3, 1))


class ReducedAttention(nn.Module):
    """Attention of all cells to those of a map that is coarser by `ratio`. Keys: attn, sr, norm.

    Source: Wang et al., Pyramid Vision Transformer, equation 2.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        ratio: int,
        *,
        norm: NormFactory,
        qkv_bias: bool,
        drop_rate: float,
        attn_drop_rate: float,
    ) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(channels, num_heads, dropout=attn_drop_rate, bias=qkv_bias, batch_first=True)
        self.proj_drop = nn.Dropout(drop_rate)
        self.ratio = ratio
        if ratio > 1:
            self.sr = nn.Conv2d(channels, channels, ratio, ratio)
            self.norm = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        keys = x
        if self.ratio > 1:
            keys = self.norm(self.sr(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        keys = keys.flatten(1, 2)
        out, _ = self.attn(x.flatten(1, 2), keys, keys, need_weights=False)
        return self.proj_drop(out).unflatten(1, x.shape[1:3])


class MixedFeedForward(nn.Module):
    """Two 1x1 convolutions with an activation between them, and a depthwise 3x3 one before it if asked. Key: layers.

    Source: Wang et al., PVT v2, section 3.3.
    """

    def __init__(self, channels: int, width: int, *, act: ActFactory, drop_rate: float, use_conv: bool) -> None:
        super().__init__()
        middle = [nn.Conv2d(width, width, 3, padding=1, groups=width)] if use_conv else []
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            *middle,
            act(),
            nn.Dropout(drop_rate),
            nn.Conv2d(width, channels, 1),
            nn.Dropout(drop_rate),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        return self.layers(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PVTBlock(nn.Module):
    """Attention and a feed-forward network, each after a norm and added to its input. Keys: norm1, attn, norm2, ffn."""

    def __init__(
        self, channels: int, attention: ReducedAttention, ffn: MixedFeedForward, norm: NormFactory, path_rate: float
    ) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.attn = attention
        self.norm2 = norm(channels)
        self.ffn = ffn
        self.path = drop_path(path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        x = x + self.path(self.attn(self.norm1(x)))
        return x + self.path(self.ffn(self.norm2(x)))


@BACKBONES.register()
class PyramidVisionTransformer(nn.Module):
    """A pyramid of attention to coarser maps; its second version has overlapping patches and convolutions.

    Linear layers start from a normal distribution of deviation 0.02, convolutions from He's. Keys: layers.i.0 for the
    patches, layers.i.1.j for the blocks (after a position embedding if there is one), layers.i.2 for the norm.
    Source: Wang et al., Pyramid Vision Transformer; Wang et al., PVT v2: Improved Baselines.

    Args:
        overlapping: the second version: overlapping patches, depthwise convolutions instead of position embeddings, a
            norm after each stage.
        pretrain_img_size: pixels of the pictures whose cells the position embeddings were learnt for.
        embed_dims: channels of a head.
        num_layers, num_heads: blocks and attention heads of each of the four stages.
        sr_ratios: how much coarser the attended maps are.
        mlp_ratios: width of the feed-forward networks over the channels.
        out_indices: the stages whose maps come out.
        drop_rate, attn_drop_rate: dropout of outputs and of attention.
        drop_path_rate: the last block's probability of being left out; it grows from 0 for the first one.

    Raises:
        ValueError: lists that have not four values, indices out of range.
    """

    def __init__(
        self,
        *,
        overlapping: bool = False,
        pretrain_img_size: int = 224,
        in_channels: int = 3,
        embed_dims: int = 64,
        num_layers: Sequence[int] = (3, 4, 6, 3),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        mlp_ratios: Sequence[int] = (8, 8, 4, 4),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        act: ActFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        for name, values in (
            ("num_layers", num_layers),
            ("num_heads", num_heads),
            ("sr_ratios", sr_ratios),
            ("mlp_ratios", mlp_ratios),
        ):
            if len(values) != len(STRIDES):
                raise ValueError(f"{name} needs {len(STRIDES)} values, not {tuple(values)}")
        if not all(0 <= i < len(STRIDES) for i in out_indices):
            raise ValueError(f"out_indices must be stages from 0 to {len(STRIDES) - 1}, not {tuple(out_indices)}")
        self.out_indices = tuple(out_indices)
        norm, act = norm or layer_norm(eps=1e-6), act or nn.GELU
        sides, paddings = OVERLAPPING_PATCHES if overlapping else PLAIN_PATCHES
        rates = iter(depth_rates(drop_path_rate, sum(num_layers)))
        stages = []
        for stage, heads in enumerate(num_heads):
            channels = embed_dims * heads
            patches = PatchEmbedding(
                in_channels, channels, sides[stage], STRIDES[stage], norm=norm, padding=paddings[stage]
            )
            layers: list[nn.Module] = []
            if not overlapping:
                cells = pretrain_img_size // math.prod(sides[: stage + 1])
                layers.append(PositionEmbedding(cells, cells, channels, drop_rate))
            for _ in range(num_layers[stage]):
                attention = ReducedAttention(
                    channels,
                    heads,
                    sr_ratios[stage],
                    norm=norm,
                    qkv_bias=qkv_bias,
                    drop_rate=drop_rate,
                    attn_drop_rate=attn_drop_rate,
                )
                width = mlp_ratios[stage] * channels
                ffn = MixedFeedForward(channels, width, act=act, drop_rate=drop_rate, use_conv=overlapping)
                layers.append(PVTBlock(channels, attention, ffn, norm, next(rates)))
            last = norm(channels) if overlapping else nn.Identity()
            stages.append(nn.ModuleList([patches, nn.Sequential(*layers), last]))
            in_channels = channels
        self.layers = nn.ModuleList(stages)
        init_linear(self)
        _init_convolutions(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, [B, C, H, W], of normalised pixels [B, in_channels, H, W]."""
        maps = []
        for index, stage in enumerate(self.layers):
            for layer in stage.children():
                x = layer(x)
            x = x.permute(0, 3, 1, 2)
            if index in self.out_indices:
                maps.append(x)
        return tuple(maps)


def _init_convolutions(module: nn.Module) -> None:
    """Normal with variance 2 / (outputs of a group * kernel area), biases of 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
