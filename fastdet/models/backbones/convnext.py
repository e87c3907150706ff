"""ConvNeXt: a convolutional network with the layout of a transformer.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.backbones.swin import DEVIATION, init_linear
from fastdet.models.layers import ActFactory, NormFactory, init_truncated_normal
from fastdet.models.layers.norm import layer_norm_2d
from fastdet.models.layers.stochastic_depth import depth_rates, drop_path
from fastdet.registry import BACKBONES

# Blocks and channels of each stage.
ARCHS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
    "huge": ((3, 3, 27, 3), (352, 704, 1408, 2816)),
}
WIDENING = 4  # of the channels inside a block


class ConvNeXtBlock(nn.Module):
    """A depthwise 7x7 convolution, a norm and two layers across channels, scaled and added to the input.

    Keys: depthwise_conv, norm, pointwise_conv1, pointwise_conv2, gamma.
    Source: Liu et al., A ConvNet for the 2020s, figure 4.

    Args:
        scale: what `gamma` starts at; 0: there is none.
    """

    def __init__(self, channels: int, *, norm: NormFactory, act: ActFactory, scale: float, path_rate: float) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = norm(channels)
        self.pointwise_conv1 = nn.Linear(channels, WIDENING * channels)
        self.act = act()
        self.pointwise_conv2 = nn.Linear(WIDENING * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), scale)) if scale > 0 else None
        self.path = drop_path(path_rate)
        self.saves_memory = False

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if self.saves_memory and x.requires_grad:
            return checkpoint(self._transform, x, use_reentrant=False)
        return self._transform(x)

    def _transform(self, x: Tensor) -> Tensor:
        out = self.norm(self.depthwise_conv(x)).permute(0, 2, 3, 1)  # [B, H, W, C]
        out = self.pointwise_conv2(self.act(self.pointwise_conv1(out)))
        if self.gamma is not None:
            out = self.gamma * out
        return x + self.path(out.permute(0, 3, 1, 2))


@BACKBONES.register()
class ConvNeXt(Backbone):
    """A pyramid of depthwise convolutions and layers across channels.

    Layers start from a normal distribution of deviation 0.02. Keys: downsample_layers.i, stages.i.j, normI.
    Source: Liu et al., A ConvNet for the 2020s; names are those of MMPretrain.

    Args:
        arch: a known size.
        stem_patch_size: pixels of the first patches' side.
        out_indices: the stages whose maps come out.
        drop_path_rate: the last block's probability of being left out; it grows from 0 for the first one.
        layer_scale_init_value: what the blocks' scales start at; 0: they have none.
        frozen_stages: n freezes the first n stages with what brings maps to their resolution.
        with_cp: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: an unknown size, indices out of range.
    """

    def __init__(
        self,
        arch: str = "tiny",
        *,
        in_channels: int = 3,
        stem_patch_size: int = 4,
        out_indices: Sequence[int] = (3,),
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        act: ActFactory | None = None,
        norm: NormFactory | None = None,
        frozen_stages: int = 0,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if arch not in ARCHS:
            raise ValueError(f"arch must be one of {', '.join(ARCHS)}, not {arch!r}")
        depths, widths = ARCHS[arch]
        if not all(0 <= i < len(depths) for i in out_indices) or not 0 <= frozen_stages <= len(depths):
            raise ValueError(
                f"out_indices must be stages from 0 to {len(depths) - 1} and frozen_stages 0 to {len(depths)}, not "
                f"{tuple(out_indices)} and {frozen_stages}"
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        norm, act = norm or layer_norm_2d(eps=1e-6), act or nn.GELU
        rates = iter(depth_rates(drop_path_rate, sum(depths)))
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if stage == 0:
                patches = nn.Conv2d(in_channels, width, stem_patch_size, stem_patch_size)
                self.downsample_layers.append(nn.Sequential(patches, norm(width)))
            else:
                before = widths[stage - 1]
                self.downsample_layers.append(nn.Sequential(norm(before), nn.Conv2d(before, width, 2, 2)))
            blocks = []
            for _ in range(depth):
                blocks.append(
                    ConvNeXtBlock(width, norm=norm, act=act, scale=layer_scale_init_value, path_rate=next(rates))
                )
                blocks[-1].saves_memory = with_cp
            self.stages.append(nn.Sequential(*blocks))
            if stage in self.out_indices:
                self.add_module(f"norm{stage}", norm(width))
        init_truncated_normal(self, DEVIATION)
        init_linear(self)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of normalised pixels [B, in_channels, H, W]."""
        maps = []
        for index, (coarser, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(coarser(x))
            if index in self.out_indices:
                maps.append(self.get_submodule(f"norm{index}")(x))
        return tuple(maps)

    def _freeze(self) -> None:
        freeze((*self.downsample_layers[: self.frozen_stages], *self.stages[: self.frozen_stages]))
