"""VisionTransformer: attention of all patches of a picture to each other.

Letters: B images, C channels, H and W cells, N tokens, M heads.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.backbones.swin import FeedForward
from fastdet.models.layers import NormFactory
from fastdet.models.layers.norm import layer_norm
from fastdet.models.layers.patches import PatchEmbedding
from fastdet.models.layers.stochastic_depth import depth_rates, drop_path
from fastdet.registry import BACKBONES

# Channels, layers, heads and channels inside the feed-forward networks.
ARCHS: dict[str, tuple[int, int, int, int]] = {
    "deit-tiny": (192, 12, 3, 768),
    "deit-small": (384, 12, 6, 1536),
    "deit-base": (768, 12, 12, 3072),
    "small": (768, 8, 8, 2304),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
}
DEVIATION = 0.02  # of the position embedding's initial values


class SelfAttention(nn.Module):
    """Attention of all tokens to each other. Keys: qkv, proj. Source: Vaswani et al., section 3.2.2."""

    def __init__(self, channels: int, num_heads: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        heads = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1))  # [B, N, 3, M, C / M]
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, M, N, C / M]
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network, each after a norm and added to its input. Keys: ln1, attn, ln2, ffn."""

    def __init__(
        self, channels: int, num_heads: int, width: int, *, qkv_bias: bool, path_rate: float, norm: NormFactory
    ) -> None:
        super().__init__()
        self.ln1 = norm(channels)
        self.attn = SelfAttention(channels, num_heads, qkv_bias=qkv_bias)
        self.ln2 = norm(channels)
        self.ffn = FeedForward(channels, width, act=nn.GELU, drop_rate=0.0)
        self.path = drop_path(path_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        tokens = tokens + self.path(self.attn(self.ln1(tokens)))
        return tokens + self.path(self.ffn(self.ln2(tokens)))


@BACKBONES.register()
class VisionTransformer(Backbone):
    """A transformer over patches; its tokens come out as a map.

    Keys are MMPretrain's: cls_token, pos_embed, patch_embed.projection, layers.i, ln1.
    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, section 3.1.

    Args:
        arch: "deit-tiny", "deit-small", "deit-base", "small", "base", "large" or "huge".
        img_size: side of the pictures for which the position embedding has a row a patch; for others it is resized.
        patch_size: pixels of a patch's side.
        out_indices: the layers whose tokens come out, counted from 0, or from the end if negative.
        with_cls_token: whether the patches attend to a token of the whole picture.
        final_norm: whether the last layer's tokens are normalised.
        drop_path_rate: the last layer's probability of being left out; it grows from 0 for the first one.
        interpolate_mode: how the position embedding is resized.
        frozen_stages: n > 0 freezes the embedding and the first n layers, with the last layer the last norm too.

    Raises:
        ValueError: an unknown size, indices out of range.
    """

    def __init__(
        self,
        arch: str = "base",
        *,
        img_size: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] = (-1,),
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        with_cls_token: bool = True,
        final_norm: bool = True,
        interpolate_mode: str = "bicubic",
        frozen_stages: int = -1,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        if arch not in ARCHS:
            raise ValueError(f"arch must be one of {', '.join(ARCHS)}, not {arch!r}")
        channels, depth, num_heads, width = ARCHS[arch]
        if not all(-depth <= i < depth for i in out_indices) or not -1 <= frozen_stages <= depth:
            raise ValueError(
                f"out_indices must be layers from -{depth} to {depth - 1} and frozen_stages -1 to {depth}, not "
                f"{tuple(out_indices)} and {frozen_stages}"
            )
        self.out_indices = tuple(i % depth for i in out_indices)
        self.frozen_stages = frozen_stages
        self.interpolate_mode = interpolate_mode
        norm = norm or layer_norm(eps=1e-6)
        self.patch_embed = PatchEmbedding(in_channels, channels, patch_size, patch_size, norm=None)
        self.side = -(-img_size // patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels)) if with_cls_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, self.side**2 + int(with_cls_token), channels))
        nn.init.trunc_normal_(self.pos_embed, std=DEVIATION)
        rates = depth_rates(drop_path_rate, depth)
        self.layers = nn.ModuleList(
            EncoderLayer(channels, num_heads, width, qkv_bias=qkv_bias, path_rate=rate, norm=norm) for rate in rates
        )
        self.ln1 = norm(channels) if final_norm else nn.Identity()
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, [B, C, H / patch_size, W / patch_size], of normalised pixels [B, C', H, W]."""
        patches = self.patch_embed(x)
        height, width = patches.shape[1:3]
        tokens = patches.flatten(1, 2)
        if self.cls_token is not None:
            tokens = torch.cat((self.cls_token.expand(len(x), -1, -1), tokens), 1)
        tokens = tokens + self._positions(height, width)
        maps = []
        for index, layer in enumerate(self.layers):
            tokens = layer(tokens)
            if index == len(self.layers) - 1:
                tokens = self.ln1(tokens)
            if index in self.out_indices:
                maps.append(tokens[:, -height * width :].unflatten(1, (height, width)).permute(0, 3, 1, 2))
        return tuple(maps)

    def _positions(self, height: int, width: int) -> Tensor:
        """The position embedding for a map of this size, [1, N, C]."""
        if (height, width) == (self.side, self.side):
            return self.pos_embed
        own, cells = self.pos_embed.split((self.pos_embed.shape[1] - self.side**2, self.side**2), 1)
        square = cells.unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)
        resized = F.interpolate(square, (height, width), mode=self.interpolate_mode, align_corners=False)
        return torch.cat((own, resized.flatten(2).transpose(1, 2)), 1)

    def _freeze(self) -> None:
        if self.frozen_stages <= 0:
            return
        self.pos_embed.requires_grad_(False)
        if self.cls_token is not None:
            self.cls_token.requires_grad_(False)
        freeze((self.patch_embed, *self.layers[: self.frozen_stages]))
        if self.frozen_stages == len(self.layers):
            freeze((self.ln1,))
