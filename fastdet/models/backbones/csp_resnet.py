"""Cross-stage partial networks as the CSPNet paper has them: of ResNet's, ResNeXt's and Darknet's blocks.

The networks of YOLOX and RTMDet are in `csp_darknet.py`.
Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, NormFactory, init_kaiming
from fastdet.models.layers.norm import batch_norm
from fastdet.registry import BACKBONES

GROUPS = 32  # of ResNeXt's convolutions


@dataclass(frozen=True)
class Design:
    """The numbers of a network, for each stage.

    Args:
        stem: channels that the stem gives.
        channels, blocks: of the stages.
        expanded: channels that are split into the part that passes by and the one for the blocks.
        inner: channels inside the blocks over those around them.
        is_darknet: Darknet's blocks; a stem of full resolution, every stage halves it.
        groups: of the blocks' 3x3 convolutions and of those that halve the resolution.
    """

    stem: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    expanded: tuple[int, ...]
    inner: tuple[float, ...]
    is_darknet: bool = False
    groups: int = 1


DESIGNS: dict[tuple[str, int], Design] = {
    ("resnet", 50): Design(64, (128, 256, 512, 1024), (3, 3, 5, 2), (256, 512, 1024, 2048), (0.5,) * 4),
    ("resnext", 50): Design(64, (256, 512, 1024, 2048), (3, 3, 5, 2), (256, 512, 1024, 2048), (1,) * 4, groups=GROUPS),
    ("darknet", 53): Design(
        32, (64, 128, 256, 512, 1024), (1, 2, 8, 8, 4), (128, 128, 256, 512, 1024), (0.5, 1, 1, 1, 1), is_darknet=True
    ),
}


class PartialBottleneck(nn.Module):
    """ResNet's bottleneck with any activation. Keys: conv1, bn1, conv2, bn2, conv3, bn3."""

    def __init__(
        self, channels: int, inner: int, groups: int, *, conv: ConvFactory, norm: NormFactory, act: ActFactory
    ) -> None:
        super().__init__()
        self.conv1 = conv(channels, inner, 1, bias=False)
        self.conv2 = conv(inner, inner, 3, padding=1, groups=groups, bias=False)
        self.conv3 = conv(inner, channels, 1, bias=False)
        self.norm_names = tuple(f"{norm.name}{number}" for number in (1, 2, 3))
        for name, width in zip(self.norm_names, (inner, inner, channels), strict=True):
            self.add_module(name, norm(width))
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        first, second, third = (self.get_submodule(name) for name in self.norm_names)
        out = self.act(first(self.conv1(x)))
        out = self.act(second(self.conv2(out)))
        return self.act(third(self.conv3(out)) + x)


class PartialDarknetBlock(nn.Module):
    """A 1x1 and a 3x3 convolution, added to the input. Keys: conv1, conv2."""

    def __init__(self, channels: int, inner: int, *, conv: ConvFactory, norm: NormFactory, act: ActFactory) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, inner, 1, conv=conv, norm=norm, act=act)
        self.conv2 = ConvModule(inner, channels, 3, padding=1, conv=conv, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.conv2(self.conv1(x)) + x


class PartialStage(nn.Module):
    """Half of the channels go through the blocks, the others pass by.

    Keys: downsample_conv, expand_conv, blocks.i, atfer_blocks_conv (as MMPretrain spells it), final_conv.
    Source: Wang et al., CSPNet, section 3.2, figure 2b.
    """

    def __init__(
        self,
        design: Design,
        stage: int,
        *,
        conv: ConvFactory,
        norm: NormFactory,
        act: ActFactory,
    ) -> None:
        super().__init__()
        before = design.channels[stage - 1] if stage else design.stem
        out_channels, expanded = design.channels[stage], design.expanded[stage]
        split = expanded // 2
        inner = int(split * design.inner[stage])
        self.downsample_conv: nn.Module = nn.Identity()
        if stage or design.is_darknet:
            after = out_channels if design.is_darknet else before
            self.downsample_conv = ConvModule(
                before, after, 3, stride=2, padding=1, groups=design.groups, norm=norm, act=act
            )
            before = after
        self.expand_conv = ConvModule(before, expanded, 1, norm=norm, act=act if design.is_darknet else False)
        self.blocks = nn.Sequential()
        for _ in range(design.blocks[stage]):
            if design.is_darknet:
                self.blocks.append(PartialDarknetBlock(split, inner, conv=conv, norm=norm, act=act))
            else:
                self.blocks.append(PartialBottleneck(split, inner, design.groups, conv=conv, norm=norm, act=act))
        self.atfer_blocks_conv = ConvModule(split, split, 1, norm=norm, act=act)
        self.final_conv = ConvModule(expanded, out_channels, 1, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        passing, treated = self.expand_conv(self.downsample_conv(x)).chunk(2, 1)
        return self.final_conv(torch.cat((passing, self.atfer_blocks_conv(self.blocks(treated))), 1))


@BACKBONES.register()
class CSPResNet(Backbone):
    """A cross-stage partial network of classification's blocks.

    Convolutions start from He's normal distribution. Keys are MMPretrain's: stem, stages.i.
    Source: Wang et al., CSPNet: A New Backbone that can Enhance Learning Capability of CNN.

    Args:
        kind: "resnet", "resnext" or "darknet".
        depth: 50, of Darknet 53.
        out_indices: the stages whose maps come out.
        frozen_stages: n freezes the stem and the stages 0 to n; -1 nothing.
        deep_stem: three 3x3 convolutions and no pooling instead of one 7x7; not for Darknet.
        act: makes the activations; None for a leaky ReLU of slope 0.01.
        norm_eval: batch norms use their stored statistics in training too.

    Raises:
        ValueError: an unknown size, indices out of range.
    """

    def __init__(
        self,
        depth: int,
        *,
        kind: str = "resnet",
        in_channels: int = 3,
        out_indices: Sequence[int] = (3,),
        frozen_stages: int = -1,
        deep_stem: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        act: ActFactory | None = None,
        norm_eval: bool = False,
    ) -> None:
        super().__init__()
        if (kind, depth) not in DESIGNS:
            known = ", ".join(f"{name} {number}" for name, number in DESIGNS)
            raise ValueError(f"kind and depth must be one of {known}, not {kind} {depth}")
        design = DESIGNS[kind, depth]
        last = len(design.channels) - 1
        if not all(0 <= i <= last for i in out_indices) or not -1 <= frozen_stages <= last:
            raise ValueError(
                f"out_indices must be from 0 to {last} and frozen_stages from -1 to {last}, not {tuple(out_indices)} "
                f"and {frozen_stages}"
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        conv, norm, act = conv or nn.Conv2d, norm or batch_norm(), act or nn.LeakyReLU
        width = design.stem
        self.stem: nn.Module
        if design.is_darknet:
            self.stem = ConvModule(in_channels, width, 3, padding=1, norm=norm, act=act)
        elif deep_stem:
            half = width // 2
            self.stem = nn.Sequential(
                ConvModule(in_channels, half, 3, stride=2, padding=1, conv=conv, norm=norm, act=act),
                ConvModule(half, half, 3, padding=1, conv=conv, norm=norm, act=act),
                ConvModule(half, width, 3, padding=1, conv=conv, norm=norm, act=act),
            )
        else:
            large = ConvModule(in_channels, width, 7, stride=2, padding=3, conv=conv, norm=norm, act=act)
            self.stem = nn.Sequential(large, nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = nn.ModuleList(
            PartialStage(design, stage, conv=conv, norm=norm, act=act) for stage in range(last + 1)
        )
        self.stage_names = tuple(f"stages.{stage}" for stage in range(last + 1))
        init_kaiming(self)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of normalised pixels [B, in_channels, H, W]."""
        return self._stage_maps(self.stem(x))

    def _freeze(self) -> None:
        if self.frozen_stages >= 0:
            freeze((self.stem, *self.stages[: self.frozen_stages + 1]))
