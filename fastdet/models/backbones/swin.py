"""SwinTransformer: attention in windows that shift from block to block. Maps inside are channels-last: [B, H, W, C].

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.layers import ActFactory, NormFactory
from fastdet.models.layers.norm import layer_norm
from fastdet.models.layers.patches import PatchEmbedding, PatchMerging
from fastdet.models.layers.stochastic_depth import depth_rates, drop_path
from fastdet.models.layers.window_attention import ShiftedWindows, WindowAttention
from fastdet.registry import BACKBONES

DEVIATION = 0.02  # of the linear layers' initial weights


class FeedForward(nn.Module):
    """Two linear layers with an activation between them. Keys: layers.0.0, layers.1."""

    def __init__(self, channels: int, width: int, *, act: ActFactory, drop_rate: float) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(channels, width), act(), nn.Dropout(drop_rate))
        self.layers = nn.Sequential(first, nn.Linear(width, channels), nn.Dropout(drop_rate))

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return self.layers(x)


class SwinBlock(nn.Module):
    """Attention and a feed-forward network, each after a norm and added to its input. Keys: norm1, attn, norm2, ffn."""

    def __init__(
        self, channels: int, attention: ShiftedWindows, ffn: FeedForward, norm: NormFactory, path_rate: float
    ) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.attn = attention
        self.norm2 = norm(channels)
        self.ffn = ffn
        self.path = drop_path(path_rate)
        self.saves_memory = False

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        if self.saves_memory and x.requires_grad:
            return checkpoint(self._transform, x, use_reentrant=False)
        return self._transform(x)

    def _transform(self, x: Tensor) -> Tensor:
        x = x + self.path(self.attn(self.norm1(x)))
        return x + self.path(self.ffn(self.norm2(x)))


class SwinStage(nn.Module):
    """Blocks of one resolution, and what brings their map to the next one. Keys: blocks.i, downsample."""

    def __init__(self, blocks: Sequence[SwinBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample


@BACKBONES.register()
class SwinTransformer(Backbone):
    """A pyramid of attention in shifted windows.

    Linear layers start from a normal distribution of deviation 0.02, position biases at 0. Keys: patch_embed,
    stages.i.blocks.j, stages.i.downsample, normI.
    Source: Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows.

    Args:
        embed_dims: channels of the first stage; each later stage has twice as many.
        patch_size: pixels of a patch's side.
        window_size: cells of a window's side; every second block shifts its windows by half of it.
        mlp_ratio: width of the feed-forward networks over the channels.
        depths, num_heads: blocks and attention heads of each stage.
        out_indices: the stages whose maps come out.
        patch_norm: whether patches are normalised.
        drop_rate, attn_drop_rate: dropout of outputs and of attention.
        drop_path_rate: the last block's probability of being left out; it grows from 0 for the first one.
        frozen_stages: 0 freezes the patches' embedding, n also the first n stages; -1 nothing.
        with_cp: recompute blocks in the backward pass to save memory.
        shifts_small_maps: whether windows shift on maps that are no larger than one.

    Raises:
        ValueError: lists of different lengths, indices out of range.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        embed_dims: int = 96,
        patch_size: int = 4,
        window_size: int = 7,
        mlp_ratio: float = 4,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        patch_norm: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        act: ActFactory | None = None,
        norm: NormFactory | None = None,
        with_cp: bool = False,
        frozen_stages: int = -1,
        shifts_small_maps: bool = True,
    ) -> None:
        super().__init__()
        if len(depths) != len(num_heads):
            raise ValueError(f"depths {tuple(depths)} and num_heads {tuple(num_heads)} need a value for each stage")
        if not all(0 <= i < len(depths) for i in out_indices) or not -1 <= frozen_stages <= len(depths):
            raise ValueError(
                f"out_indices must be stages from 0 to {len(depths) - 1} and frozen_stages -1 to {len(depths)}, not "
                f"{tuple(out_indices)} and {frozen_stages}"
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        norm, act = norm or layer_norm(), act or nn.GELU
        patches_norm = norm if patch_norm else None
        self.patch_embed = PatchEmbedding(in_channels, embed_dims, patch_size, patch_size, norm=patches_norm)
        self.drop_after_pos = nn.Dropout(drop_rate)
        rates = iter(depth_rates(drop_path_rate, sum(depths)))
        stages = []
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            channels = embed_dims * 2**stage
            blocks = []
            for index in range(depth):
                attention = WindowAttention(
                    channels,
                    heads,
                    window_size,
                    qkv_bias=qkv_bias,
                    qk_scale=qk_scale,
                    attn_drop_rate=attn_drop_rate,
                    drop_rate=drop_rate,
                )
                shift = window_size // 2 if index % 2 else 0
                shifted = ShiftedWindows(attention, window_size, shift, shifts_small_maps=shifts_small_maps)
                ffn = FeedForward(channels, int(mlp_ratio * channels), act=act, drop_rate=drop_rate)
                blocks.append(SwinBlock(channels, shifted, ffn, norm, next(rates)))
                blocks[-1].saves_memory = with_cp
            is_last = stage == len(depths) - 1
            merging = None if is_last else PatchMerging(channels, 2 * channels, norm=patches_norm)
            stages.append(SwinStage(blocks, merging))
        self.stages = nn.ModuleList(stages)
        for index in out_indices:
            self.add_module(f"norm{index}", norm(embed_dims * 2**index))
        init_linear(self)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, [B, C, H, W], of normalised pixels [B, in_channels, H, W]."""
        x = self.drop_after_pos(self.patch_embed(x))
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage.get_submodule("blocks")(x)
            if index in self.out_indices:
                maps.append(self.get_submodule(f"norm{index}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.get_submodule("downsample")(x)
        return tuple(maps)

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        norms = [f"norm{i}" for i in self.out_indices if i < self.frozen_stages]
        freeze((self.patch_embed, self.drop_after_pos, *(self.get_submodule(name) for name in norms)))
        freeze(self.stages[: self.frozen_stages])


def init_linear(module: nn.Module) -> None:
    """Normal of deviation 0.02 with biases of 0, for every linear layer inside."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=DEVIATION)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
