"""RegNet: a residual network whose stage widths follow a line.

Letters: B images, C channels, H and W cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from fastdet.models.backbones.blocks import (
    BlockFactory,
    BlockLayers,
    ResidualBlock,
    Style,
    bottleneck,
    make_stage,
)
from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.backbones.resnet import init_residual
from fastdet.models.layers import ConvFactory, NormFactory
from fastdet.models.layers.norm import batch_norm
from fastdet.models.layers.plugin import BlockPlugin
from fastdet.registry import BACKBONES, LAYERS

DIVISOR = 8  # of all widths


@LAYERS.register("RegNetArch")
@dataclass(frozen=True)
class RegNetArch:
    """The numbers that a RegNet is designed by.

    Args:
        w0, wa, wm: width of the first block, growth a block, factor between stages.
        group_w: channels of a group.
        depth: blocks in all.
        bot_mul: channels of the 3x3 convolutions over those of the blocks.
    """

    w0: int
    wa: float
    wm: float
    group_w: int
    depth: int
    bot_mul: float = 1.0

    def stages(self) -> list[tuple[int, int]]:
        """Width and number of blocks of each stage, before widths are fitted to groups."""
        widths = []
        for block in range(self.depth):
            step = round(math.log((self.w0 + self.wa * block) / self.w0) / math.log(self.wm))
            widths.append(round(self.w0 * self.wm**step / DIVISOR) * DIVISOR)
        return [(width, len(list(same))) for width, same in groupby(widths)]

    def fitted(self, width: int) -> tuple[int, int, int]:
        """Width of a stage's blocks, width of their 3x3 convolutions and groups of these, fitted to each other."""
        inner = int(width * self.bot_mul)
        group = min(self.group_w, inner)
        inner = round(inner / group) * group
        return int(inner / self.bot_mul), inner, inner // group


ARCHS = {
    "regnetx_400mf": RegNetArch(24, 24.48, 2.54, 16, 22),
    "regnetx_800mf": RegNetArch(56, 35.73, 2.28, 16, 16),
    "regnetx_1.6gf": RegNetArch(80, 34.01, 2.25, 24, 18),
    "regnetx_3.2gf": RegNetArch(88, 26.31, 2.25, 48, 25),
    "regnetx_4.0gf": RegNetArch(96, 38.65, 2.43, 40, 23),
    "regnetx_6.4gf": RegNetArch(184, 60.83, 2.07, 56, 17),
    "regnetx_8.0gf": RegNetArch(80, 49.56, 2.88, 120, 23),
    "regnetx_12gf": RegNetArch(168, 73.36, 2.37, 112, 19),
}


@BACKBONES.register()
class RegNet(Backbone):
    """A RegNetX: bottlenecks of one group width, no pooling after the stem.

    Convolutions start from He's normal distribution, with `zero_init_residual` the last norm of each block at 0.
    Keys: conv1, bn1, layer1.0.conv1, ...
    Source: Radosavovic et al., Designing Network Design Spaces, section 3.4; the sizes are those of its appendix.

    Args:
        arch: a known size, or its numbers.
        strides, dilations, out_indices, style, frozen_stages, norm_eval, dcn, stage_with_dcn, plugins, with_cp: as
            those of ResNet.

    Raises:
        ValueError: an unknown size, or lists of the wrong length.
    """

    def __init__(
        self,
        arch: str | RegNetArch,
        *,
        in_channels: int = 3,
        stem_channels: int = 32,
        strides: Sequence[int] = (2, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        style: Style = "pytorch",
        avg_down: bool = False,
        frozen_stages: int = -1,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        norm_eval: bool = True,
        dcn: ConvFactory | None = None,
        stage_with_dcn: Sequence[bool] = (False, False, False, False),
        plugins: Sequence[BlockPlugin] = (),
        with_cp: bool = False,
        zero_init_residual: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(arch, str):
            if arch not in ARCHS:
                raise ValueError(f"arch must be one of {', '.join(ARCHS)} or its numbers, not {arch!r}")
            arch = ARCHS[arch]
        stages = arch.stages()
        for name, values in (("strides", strides), ("dilations", dilations), ("stage_with_dcn", stage_with_dcn)):
            if len(values) != len(stages):
                raise ValueError(f"{name} needs a value for each of the {len(stages)} stages, not {tuple(values)}")
        if not all(0 <= i < len(stages) for i in out_indices):
            raise ValueError(f"out_indices must be stages from 0 to {len(stages) - 1}, not {tuple(out_indices)}")
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        conv, norm = conv or nn.Conv2d, norm or batch_norm()
        self.norm_name = f"{norm.name}1"
        self.conv1 = conv(in_channels, stem_channels, 3, stride=2, padding=1, bias=False)
        self.add_module(self.norm_name, norm(stem_channels))
        channels = stem_channels
        self.stage_names = tuple(f"layer{i + 1}" for i in range(len(stages)))
        for stage, (name, (designed, blocks)) in enumerate(zip(self.stage_names, stages, strict=True)):
            width, inner, groups = arch.fitted(designed)
            layers = BlockLayers(
                conv=conv,
                spatial=dcn if stage_with_dcn[stage] else None,
                norm=norm,
                style=style,
                plugins=tuple(plugin for plugin in plugins if plugin.is_in(stage)),
            )
            parts = make_stage(
                _blocks(inner, groups),
                blocks,
                channels,
                width,
                layers,
                stride=strides[stage],
                dilation=dilations[stage],
                avg_down=avg_down,
            )
            self.add_module(name, parts)
            channels = width
        init_residual(self, zero_init_residual, with_cp)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of normalised pixels [B, in_channels, H, W]."""
        x = torch.relu(self.get_submodule(self.norm_name)(self.conv1(x)))
        return self._stage_maps(x)

    def _freeze(self) -> None:
        if self.frozen_stages >= 0:
            names = self.stage_names[: self.frozen_stages]
            freeze((self.conv1, *(self.get_submodule(name) for name in (self.norm_name, *names))))


def _blocks(inner: int, groups: int) -> BlockFactory:
    """Bottlenecks that are as wide outside as their stage."""

    def make(
        in_channels: int, channels: int, stride: int, dilation: int, layers: BlockLayers, shortcut: nn.Module | None
    ) -> ResidualBlock:
        return bottleneck(in_channels, inner, channels, stride, dilation, layers, shortcut, groups)

    return BlockFactory(make, 1)
