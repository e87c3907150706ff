"""HRNet: branches of several resolutions side by side, which exchange what they see.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.backbones.blocks import BASIC, BlockFactory, BlockLayers, grouped_bottleneck, make_stage
from fastdet.models.backbones.freezing import Backbone
from fastdet.models.backbones.resnet import init_residual
from fastdet.models.layers import ConvFactory, NormFactory
from fastdet.models.layers.norm import batch_norm
from fastdet.registry import BACKBONES, LAYERS

BLOCKS = {"BASIC": BASIC, "BOTTLENECK": grouped_bottleneck()}
STEM_CHANNELS = 64


@LAYERS.register()
@dataclass(frozen=True)
class HRStage:
    """A stage of an HRNet.

    Args:
        num_modules: how often the branches exchange.
        block: kind of residual block.
        num_blocks, num_channels: of each branch, finest first; channels are those inside the blocks.

    Raises:
        ValueError: an unknown block, or lists of different lengths.
    """

    num_modules: int
    block: Literal["BASIC", "BOTTLENECK"]
    num_blocks: Sequence[int]
    num_channels: Sequence[int]

    def __post_init__(self) -> None:
        if self.block not in BLOCKS:
            raise ValueError(f"block must be 'BASIC' or 'BOTTLENECK', not {self.block!r}")
        if len(self.num_blocks) != len(self.num_channels):
            raise ValueError(
                f"num_blocks {tuple(self.num_blocks)} and num_channels {tuple(self.num_channels)} need a value for "
                "each branch"
            )

    @property
    def factory(self) -> BlockFactory:
        """Makes the blocks."""
        return BLOCKS[self.block]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each branch's output."""
        return tuple(channels * self.factory.expansion for channels in self.num_channels)


class HRModule(nn.Module):
    """One exchange: blocks in each branch, then every branch gets the sum of all, brought to its resolution.

    Keys: branches.i.j, fuse_layers.i.j.
    Source: Wang et al., Deep High-Resolution Representation Learning, figure 3.

    Args:
        num_outs: how many of the branches get the sum, the finest ones first.
    """

    def __init__(self, stage: HRStage, widths: Sequence[int], layers: BlockLayers, num_outs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            make_stage(stage.factory, blocks, width, channels, layers)
            for blocks, width, channels in zip(stage.num_blocks, widths, stage.num_channels, strict=True)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_resample(stage.widths, source, goal, layers) for source in range(len(widths)))
            for goal in range(num_outs)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """A map [B, C, H, W] for each branch, finest first."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [torch.relu(self._sum(maps, goal)) for goal in range(len(self.fuse_layers))]

    def _sum(self, maps: Sequence[Tensor], goal: int) -> Tensor:
        total = None
        for source, x in enumerate(maps):
            part = self.fuse_layers.get_submodule(f"{goal}.{source}")(x)
            if source > goal:
                part = F.interpolate(part, scale_factor=float(2 ** (source - goal)), mode="nearest")
            total = part if total is None else total + part
        assert total is not None
        return total


@BACKBONES.register()
class HRNet(Backbone):
    """A network that keeps a fine map all the way, beside ever coarser ones.

    Convolutions start from He's normal distribution. Keys: conv1, bn1, conv2, bn2, layer1.i, transitionI.i, stageI.i.
    Source: Wang et al., Deep High-Resolution Representation Learning for Visual Recognition.

    Args:
        stages: four; each has one branch more than the one before, the first one has one.
        norm_eval: batch norms use their stored statistics in training too.
        with_cp: recompute blocks in the backward pass to save memory.
        multiscale_output: whether every branch comes out, or the finest alone.

    Raises:
        ValueError: another number of stages.
    """

    def __init__(
        self,
        stages: Sequence[HRStage],
        *,
        in_channels: int = 3,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        norm_eval: bool = True,
        with_cp: bool = False,
        multiscale_output: bool = True,
    ) -> None:
        super().__init__()
        if len(stages) != 4:
            raise ValueError(f"HRNet needs four stages, not {len(stages)}")
        self.norm_eval = norm_eval
        layers = BlockLayers(conv=conv or nn.Conv2d, norm=norm or batch_norm())
        self.norm_names = (f"{layers.norm.name}1", f"{layers.norm.name}2")
        self.conv1 = layers.conv(in_channels, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.add_module(self.norm_names[0], layers.norm(STEM_CHANNELS))
        self.conv2 = layers.conv(STEM_CHANNELS, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.add_module(self.norm_names[1], layers.norm(STEM_CHANNELS))
        first = stages[0]
        self.layer1 = make_stage(first.factory, first.num_blocks[0], STEM_CHANNELS, first.num_channels[0], layers)
        widths = first.widths
        for number, stage in enumerate(stages[1:], start=2):
            self.add_module(f"transition{number - 1}", _transition(widths, stage.widths, layers))
            branches = len(stage.widths)
            single = number == len(stages) and not multiscale_output
            modules = [
                HRModule(stage, stage.widths, layers, 1 if single and index == stage.num_modules - 1 else branches)
                for index in range(stage.num_modules)
            ]
            self.add_module(f"stage{number}", nn.Sequential(*modules))
            widths = stage.widths
        init_residual(self, False, with_cp)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The branches' maps, finest first, of normalised pixels [B, in_channels, H, W]."""
        for conv, norm in zip((self.conv1, self.conv2), self.norm_names, strict=True):
            x = torch.relu(self.get_submodule(norm)(conv(x)))
        maps = [self.layer1(x)]
        for number in (2, 3, 4):
            transition = self.get_submodule(f"transition{number - 1}")
            maps = [
                layer(maps[min(index, len(maps) - 1)])  # new branches start from the coarsest one
                for index, layer in enumerate(transition.children())
            ]
            maps = self.get_submodule(f"stage{number}")(maps)
        return tuple(maps)


def _transition(sources: Sequence[int], goals: Sequence[int], layers: BlockLayers) -> nn.ModuleList:
    """A layer for each branch of the next stage."""
    return nn.ModuleList(
        _widen(sources[goal], width, layers)
        if goal < len(sources)
        else nn.Sequential(
            *(
                _conv_relu(sources[-1], width if step == goal else sources[-1], 2, layers)
                for step in range(len(sources), goal + 1)
            )
        )
        for goal, width in enumerate(goals)
    )


def _widen(source: int, goal: int, layers: BlockLayers) -> nn.Module:
    return nn.Identity() if source == goal else _conv_relu(source, goal, 1, layers)


def _conv_relu(source: int, goal: int, stride: int, layers: BlockLayers) -> nn.Sequential:
    return nn.Sequential(*_conv_norm(source, goal, 3, stride, layers), nn.ReLU())


def _conv_norm(source: int, goal: int, size: int, stride: int, layers: BlockLayers) -> tuple[nn.Module, nn.Module]:
    conv = layers.conv(source, goal, size, stride=stride, padding=size // 2, bias=False)
    return conv, layers.norm(goal)


def _resample(widths: Sequence[int], source: int, goal: int, layers: BlockLayers) -> nn.Module:
    """Brings a branch's channels, and a finer branch's resolution, to those of another."""
    if source == goal:
        return nn.Identity()
    if source > goal:
        return nn.Sequential(*_conv_norm(widths[source], widths[goal], 1, 1, layers))
    steps = [_conv_relu(widths[source], widths[source], 2, layers) for _ in range(goal - source - 1)]
    return nn.Sequential(*steps, nn.Sequential(*_conv_norm(widths[source], widths[goal], 3, 2, layers)))
