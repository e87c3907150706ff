"""ResNet: the residual network in its common variants.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fastdet.models.layers import ConvFactory, NormFactory, init_kaiming
from fastdet.models.layers.norm import batch_norm
from fastdet.registry import BACKBONES

Style = Literal["pytorch", "caffe"]


class _Block(nn.Module):
    """A residual block: convolutions with norms, the shortcut added before the last ReLU.

    Keys: conv1, bn1, conv2, bn2, (conv3, bn3,) downsample.0, downsample.1.
    """

    expansion: ClassVar[int]

    def __init__(
        self, convs: Sequence[nn.Module], norm: NormFactory, channels: Sequence[int], downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.layer_names = tuple((f"conv{i}", f"{norm.name}{i}") for i in range(1, len(convs) + 1))
        for (conv_name, norm_name), conv, width in zip(self.layer_names, convs, channels, strict=True):
            self.add_module(conv_name, conv)
            self.add_module(norm_name, norm(width))
        self.downsample = downsample
        self.saves_memory = False

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation right before the sum."""
        return self.get_submodule(self.layer_names[-1][1])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        if self.saves_memory and x.requires_grad:
            return torch.relu(checkpoint(self._before_relu, x, use_reentrant=False))
        return torch.relu(self._before_relu(x))

    def _before_relu(self, x: Tensor) -> Tensor:
        out = x
        for index, (conv_name, norm_name) in enumerate(self.layer_names):
            if index > 0:
                out = torch.relu(out)
            out = self.get_submodule(norm_name)(self.get_submodule(conv_name)(out))
        return out + (x if self.downsample is None else self.downsample(x))


class BasicBlock(_Block):
    """Two 3x3 convolutions; the first one has the stride."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int,
        dilation: int,
        style: Style,
        conv: ConvFactory,
        norm: NormFactory,
        downsample: nn.Module | None,
    ) -> None:
        convs = (
            conv(in_channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False),
            conv(channels, channels, 3, padding=1, bias=False),
        )
        super().__init__(convs, norm, (channels, channels), downsample)


class Bottleneck(_Block):
    """A 3x3 convolution between two 1x1 ones; the stride is the 3x3's (pytorch) or the first 1x1's (caffe)."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int,
        dilation: int,
        style: Style,
        conv: ConvFactory,
        norm: NormFactory,
        downsample: nn.Module | None,
    ) -> None:
        first, second = (1, stride) if style == "pytorch" else (stride, 1)
        convs = (
            conv(in_channels, channels, 1, stride=first, bias=False),
            conv(channels, channels, 3, stride=second, padding=dilation, dilation=dilation, bias=False),
            conv(channels, channels * self.expansion, 1, bias=False),
        )
        super().__init__(convs, norm, (channels, channels, channels * self.expansion), downsample)


_DEPTHS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def residual_stage(
    depth: int,
    stage: int,
    in_channels: int,
    channels: int,
    *,
    stride: int,
    dilation: int,
    style: Style,
    avg_down: bool,
    conv: ConvFactory,
    norm: NormFactory,
) -> nn.Sequential:
    """The blocks of one stage of a ResNet, not initialised.

    Args:
        stage: 0 to 3; says how many blocks.
        channels: inside the blocks.
        stride: of the first block.
    """
    block, blocks = _DEPTHS[depth]
    out_channels = channels * block.expansion
    layers = []
    for index in range(blocks[stage]):
        downsample = None
        if index == 0 and (stride != 1 or in_channels != out_channels):
            downsample = _downsample(in_channels, out_channels, stride, avg_down, conv, norm)
        layers.append(
            block(
                out_channels if index else in_channels,
                channels,
                stride=1 if index else stride,
                dilation=dilation,
                style=style,
                conv=conv,
                norm=norm,
                downsample=downsample,
            )
        )
    return nn.Sequential(*layers)


def stage_channels(depth: int, stage: int) -> tuple[int, int]:
    """Channels that come into a stage (1 to 3), and channels inside its blocks, at the usual width of 64.

    Raises:
        ValueError: an unknown depth or stage.
    """
    if depth not in _DEPTHS or not 1 <= stage <= 3:
        raise ValueError(
            f"depth must be one of {', '.join(map(str, _DEPTHS))} and stage 1 to 3, not {depth} and {stage}"
        )
    return 64 * 2 ** (stage - 1) * _DEPTHS[depth][0].expansion, 64 * 2**stage


@BACKBONES.register()
class ResNet(nn.Module):
    """Residual network with frozen stages and fixed statistics, as detectors fine-tune it.

    Convolutions start from He's normal distribution, norms at 1, with `zero_init_residual` the last norm of each block
    at 0. Keys are torchvision's: conv1, bn1, layer1.0.conv1, ...; with `deep_stem`: stem.0, stem.1, ...

    Source: He et al., Deep Residual Learning; He et al., Bag of Tricks (deep stem and pooled shortcut).

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem_channels: channels after the stem; None: base_channels.
        base_channels: channels inside the first stage's blocks; each later stage has twice as many.
        num_stages: 1 to 4.
        strides, dilations: of each stage's first block, and of its 3x3 convolutions.
        out_indices: the stages whose maps come out.
        style: where a Bottleneck has its stride.
        deep_stem: three 3x3 convolutions instead of one 7x7.
        avg_down: the shortcut averages before its 1x1 convolution instead of skipping cells.
        frozen_stages: 0 freezes the stem, n also the first n stages; -1 nothing. Frozen parts keep their statistics.
        norm_eval: batch norms use their stored statistics in training too.
        with_cp: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: values out of these ranges, or lists of the wrong length.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        stem_channels: int | None = None,
        base_channels: int = 64,
        num_stages: int = 4,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        style: Style = "pytorch",
        deep_stem: bool = False,
        avg_down: bool = False,
        frozen_stages: int = -1,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        norm_eval: bool = True,
        with_cp: bool = False,
        zero_init_residual: bool = True,
    ) -> None:
        super().__init__()
        _check(depth, num_stages, strides, dilations, out_indices, style, frozen_stages)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.deep_stem = deep_stem
        conv = conv or nn.Conv2d
        norm = norm or batch_norm()
        stem_channels = stem_channels or base_channels
        self.norm_name = f"{norm.name}1"
        if deep_stem:
            self.stem = _deep_stem(in_channels, stem_channels, conv, norm)
        else:
            self.conv1 = conv(in_channels, stem_channels, 7, stride=2, padding=3, bias=False)
            self.add_module(self.norm_name, norm(stem_channels))
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

        width = stem_channels
        self.stage_names = tuple(f"layer{i + 1}" for i in range(num_stages))
        for stage, name in enumerate(self.stage_names):
            channels = base_channels * 2**stage
            blocks = residual_stage(
                depth,
                stage,
                width,
                channels,
                stride=strides[stage],
                dilation=dilations[stage],
                style=style,
                avg_down=avg_down,
                conv=conv,
                norm=norm,
            )
            self.add_module(name, blocks)
            width = channels * _DEPTHS[depth][0].expansion

        init_kaiming(self)
        for module in self.modules():
            if isinstance(module, _Block):
                module.saves_memory = with_cp
                if zero_init_residual:
                    nn.init.zeros_(module.last_norm.get_parameter("weight"))
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of normalised pixels [B, in_channels, H, W]."""
        if self.deep_stem:
            x = self.stem(x)
        else:
            x = torch.relu(self.get_submodule(self.norm_name)(self.conv1(x)))
        x = self.maxpool(x)
        maps = []
        for index, name in enumerate(self.stage_names):
            x = self.get_submodule(name)(x)
            if index in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def train(self, mode: bool = True) -> "ResNet":
        """Training mode, but for frozen stages and, with `norm_eval`, batch norms."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        stem = [self.stem] if self.deep_stem else [self.conv1, self.get_submodule(self.norm_name)]
        for module in (*stem, *(self.get_submodule(name) for name in self.stage_names[: self.frozen_stages])):
            module.eval()
            module.requires_grad_(False)


def _deep_stem(in_channels: int, channels: int, conv: ConvFactory, norm: NormFactory) -> nn.Sequential:
    half = channels // 2
    layers: list[nn.Module] = []
    for source, width, stride in ((in_channels, half, 2), (half, half, 1), (half, channels, 1)):
        layers += [conv(source, width, 3, stride=stride, padding=1, bias=False), norm(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _downsample(
    in_channels: int, out_channels: int, stride: int, avg_down: bool, conv: ConvFactory, norm: NormFactory
) -> nn.Sequential:
    layers: list[nn.Module] = []
    if avg_down:
        layers.append(nn.AvgPool2d(stride, stride=stride, ceil_mode=True, count_include_pad=False))
        stride = 1
    layers += [conv(in_channels, out_channels, 1, stride=stride, bias=False), norm(out_channels)]
    return nn.Sequential(*layers)


def _check(
    depth: int,
    num_stages: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    out_indices: Sequence[int],
    style: str,
    frozen_stages: int,
) -> None:
    if depth not in _DEPTHS:
        raise ValueError(f"ResNet depth must be one of {', '.join(map(str, _DEPTHS))}, not {depth}")
    if not 1 <= num_stages <= 4:
        raise ValueError(f"num_stages must be 1 to 4, not {num_stages}")
    for name, values in (("strides", strides), ("dilations", dilations)):
        if len(values) != num_stages:
            raise ValueError(f"{name} needs a value for each of the {num_stages} stages, not {tuple(values)}")
    if not out_indices or not all(0 <= i < num_stages for i in out_indices):
        raise ValueError(f"out_indices must be stages from 0 to {num_stages - 1}, not {tuple(out_indices)}")
    if style not in ("pytorch", "caffe"):
        raise ValueError(f"style must be 'pytorch' or 'caffe', not {style!r}")
    if not -1 <= frozen_stages <= num_stages:
        raise ValueError(f"frozen_stages must be -1 to {num_stages}, not {frozen_stages}")
