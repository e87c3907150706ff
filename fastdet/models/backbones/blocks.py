"""Residual blocks and stages of them.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastdet.models.layers import ConvFactory, NormFactory
from fastdet.models.layers.norm import batch_norm
from fastdet.models.layers.plugin import BlockPlugin

Style = Literal["pytorch", "caffe"]


@dataclass(frozen=True)
class BlockLayers:
    """What the blocks of a stage are made of.

    Args:
        conv: the convolutions.
        spatial: the 3x3 convolution of a bottleneck; None: `conv`.
        norm: the normalisation layers.
        style: whether a bottleneck has its stride in the 3x3 convolution (pytorch) or in the first 1x1 one (caffe).
        plugins: of a bottleneck.
        base_channels: channels inside the blocks of the first stage, which group widths refer to.
        stage: which one it is, from 0.
    """

    conv: ConvFactory = nn.Conv2d
    spatial: ConvFactory | None = None
    norm: NormFactory = field(default_factory=batch_norm)
    style: Style = "pytorch"
    plugins: tuple[BlockPlugin, ...] = ()
    base_channels: int = 64
    stage: int = 0

    def strides(self, stride: int) -> tuple[int, int]:
        """Strides of a bottleneck's first and second convolution."""
        return (1, stride) if self.style == "pytorch" else (stride, 1)


# (in_channels, channels, stride, dilation, layers, shortcut) -> block; the first block of a stage has the shortcut.
BlockMaker = Callable[[int, int, int, int, BlockLayers, nn.Module | None], "ResidualBlock"]


@dataclass(frozen=True)
class BlockFactory:
    """Makes blocks of one kind, whose output has `expansion` times their inner channels."""

    make: BlockMaker
    expansion: int


class ResidualBlock(nn.Module):
    """Convolutions with norms and plugins, the shortcut added before the last ReLU.

    Keys: conv1, bn1, conv2, bn2, (conv3, bn3,) downsample.i, and the plugins' names.

    Args:
        convs: with the norm after each; None where the convolution has its own.
        norm_name: the norms' attribute, without their number.
        shortcut: maps the input to what is added; None for the input itself.
        plugins: the layers after each convolution, by name.
    """

    def __init__(
        self,
        convs: Sequence[tuple[nn.Module, nn.Module | None]],
        norm_name: str,
        shortcut: nn.Module | None,
        plugins: Sequence[Sequence[tuple[str, nn.Module]]] = ((), (), ()),
    ) -> None:
        super().__init__()
        self.norm_names: list[str | None] = []
        self.plugin_names: list[tuple[str, ...]] = []
        for number, ((conv, norm), extras) in enumerate(zip(convs, plugins, strict=False), start=1):
            self.add_module(f"conv{number}", conv)
            self.norm_names.append(None if norm is None else f"{norm_name}{number}")
            if norm is not None:
                self.add_module(f"{norm_name}{number}", norm)
            self.plugin_names.append(self._add_plugins(extras))
        self.downsample = shortcut
        self.saves_memory = False

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation right before the sum."""
        name = self.norm_names[-1]
        assert name is not None
        return self.get_submodule(name)

    def forward(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W'].

        Args:
            addend: added before the last ReLU.
        """
        if self.saves_memory and x.requires_grad:
            out = checkpoint(self._before_relu, x, use_reentrant=False)
        else:
            out = self._before_relu(x)
        return torch.relu(out if addend is None else out + addend)

    def _before_relu(self, x: Tensor) -> Tensor:
        out, last = x, len(self.norm_names)
        for number in range(1, last + 1):
            out = self._convolve(number, out)
            if number < last and self.norm_names[number - 1] is not None:
                out = torch.relu(out)
            out = self._plug(number, out)
        return out + (x if self.downsample is None else self.downsample(x))

    def _convolve(self, number: int, x: Tensor) -> Tensor:
        x = self.get_submodule(f"conv{number}")(x)
        norm = self.norm_names[number - 1]
        return x if norm is None else self.get_submodule(norm)(x)

    def _plug(self, number: int, x: Tensor) -> Tensor:
        for name in self.plugin_names[number - 1]:
            x = self.get_submodule(name)(x)
        return x

    def _add_plugins(self, layers: Sequence[tuple[str, nn.Module]]) -> tuple[str, ...]:
        for name, layer in layers:
            if hasattr(self, name):
                raise ValueError(f"a block has two plugins of the name {name!r}: give one of them a postfix")
            self.add_module(name, layer)
        return tuple(name for name, _ in layers)


def make_plugins(plugins: Sequence[BlockPlugin], widths: Sequence[int]) -> list[list[tuple[str, nn.Module]]]:
    """The plugins after each convolution of a block, whose outputs have these widths.

    Raises:
        ValueError: a position that the block does not have.
    """
    places = [f"after_conv{number}" for number in range(1, len(widths) + 1)]
    for plugin in plugins:
        if plugin.position not in places:
            raise ValueError(f"a plugin's position must be one of {', '.join(places)}, not {plugin.position!r}")
    return [
        [(plugin.name, plugin.layer.make(width)) for plugin in plugins if plugin.position == place]
        for place, width in zip(places, widths, strict=True)
    ]


def _basic(
    in_channels: int, channels: int, stride: int, dilation: int, layers: BlockLayers, shortcut: nn.Module | None
) -> ResidualBlock:
    if layers.spatial is not None or layers.plugins:
        raise ValueError("blocks of depth 18 and 34 have neither dcn nor plugins: use depth 50 or more")
    conv, norm = layers.conv, layers.norm
    convs = (
        (
            conv(in_channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False),
            norm(channels),
        ),
        (conv(channels, channels, 3, padding=1, bias=False), norm(channels)),
    )
    return ResidualBlock(convs, norm.name, shortcut)


BASIC = BlockFactory(_basic, 1)


def bottleneck(
    in_channels: int,
    width: int,
    out_channels: int,
    stride: int,
    dilation: int,
    layers: BlockLayers,
    shortcut: nn.Module | None,
    groups: int = 1,
) -> ResidualBlock:
    """A 3x3 convolution of `width` channels between two 1x1 ones."""
    first, second = layers.strides(stride)
    conv, norm, spatial = layers.conv, layers.norm, layers.spatial or layers.conv
    middle = spatial(width, width, 3, stride=second, padding=dilation, dilation=dilation, groups=groups, bias=False)
    convs = (
        (conv(in_channels, width, 1, stride=first, bias=False), norm(width)),
        (middle, norm(width)),
        (conv(width, out_channels, 1, bias=False), norm(out_channels)),
    )
    return ResidualBlock(convs, norm.name, shortcut, make_plugins(layers.plugins, (width, width, out_channels)))


def grouped_width(channels: int, groups: int, base_width: int, base_channels: int) -> int:
    """Channels of a grouped bottleneck's 3x3 convolution: `base_width` a group in the first stage."""
    return channels if groups == 1 else channels * base_width // base_channels * groups


def grouped_bottleneck(groups: int = 1, base_width: int = 4) -> BlockFactory:
    """Bottlenecks whose 3x3 convolution has groups.

    Source: Xie et al., Aggregated Residual Transformations for Deep Neural Networks, figure 3c.
    """

    def make(
        in_channels: int, channels: int, stride: int, dilation: int, layers: BlockLayers, shortcut: nn.Module | None
    ) -> ResidualBlock:
        width = grouped_width(channels, groups, base_width, layers.base_channels)
        return bottleneck(in_channels, width, channels * 4, stride, dilation, layers, shortcut, groups)

    return BlockFactory(make, 4)


def make_shortcut(
    in_channels: int, out_channels: int, stride: int, layers: BlockLayers, avg_down: bool = False
) -> nn.Sequential:
    """A 1x1 convolution with its norm; with `avg_down` an average before it does the stride."""
    parts: list[nn.Module] = []
    if avg_down:
        parts.append(nn.AvgPool2d(stride, stride=stride, ceil_mode=True, count_include_pad=False))
        stride = 1
    parts += [layers.conv(in_channels, out_channels, 1, stride=stride, bias=False), layers.norm(out_channels)]
    return nn.Sequential(*parts)


def make_stage(
    block: BlockFactory,
    blocks: int,
    in_channels: int,
    channels: int,
    layers: BlockLayers,
    *,
    stride: int = 1,
    dilation: int = 1,
    avg_down: bool = False,
) -> nn.Sequential:
    """Blocks one after the other, not initialised; the first one has the stride, and a shortcut where shapes differ."""
    out_channels = channels * block.expansion
    parts = []
    for index in range(blocks):
        shortcut = None
        if index == 0 and (stride != 1 or in_channels != out_channels):
            shortcut = make_shortcut(in_channels, out_channels, stride, layers, avg_down)
        parts.append(
            block.make(
                out_channels if index else in_channels, channels, 1 if index else stride, dilation, layers, shortcut
            )
        )
    return nn.Sequential(*parts)
