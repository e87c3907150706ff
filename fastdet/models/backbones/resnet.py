"""ResNet: the residual network in its common variants.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.backbones.blocks import (
    BASIC,
    BlockFactory,
    BlockLayers,
    ResidualBlock,
    Style,
    grouped_bottleneck,
    make_stage,
)
from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.layers import ConvFactory, NormFactory, init_kaiming, keep_init
from fastdet.models.layers.norm import batch_norm
from fastdet.models.layers.plugin import BlockPlugin
from fastdet.registry import BACKBONES, LAYERS

_BOTTLENECK = grouped_bottleneck()
_DEPTHS: dict[int, tuple[BlockFactory, tuple[int, int, int, int]]] = {
    18: (BASIC, (2, 2, 2, 2)),
    34: (BASIC, (3, 4, 6, 3)),
    50: (_BOTTLENECK, (3, 4, 6, 3)),
    101: (_BOTTLENECK, (3, 4, 23, 3)),
    152: (_BOTTLENECK, (3, 8, 36, 3)),
    200: (_BOTTLENECK, (3, 24, 36, 3)),
}


@LAYERS.register("GroupedBottleneck")
def grouped_blocks(groups: int = 1, base_width: int = 4) -> BlockFactory:
    """The blocks of ResNeXt."""
    return grouped_bottleneck(groups, base_width)


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
    layers = BlockLayers(conv=conv, norm=norm, style=style)
    return make_stage(
        block, blocks[stage], in_channels, channels, layers, stride=stride, dilation=dilation, avg_down=avg_down
    )


def stage_channels(depth: int, stage: int, base_channels: int = 64) -> tuple[int, int]:
    """Channels that come into a stage (1 to 3), and channels inside its blocks, by those inside the first stage's.

    Raises:
        ValueError: an unknown depth or stage.
    """
    if depth not in _DEPTHS or not 1 <= stage <= 3:
        raise ValueError(
            f"depth must be one of {', '.join(map(str, _DEPTHS))} and stage 1 to 3, not {depth} and {stage}"
        )
    channels = base_channels * 2**stage
    return channels // 2 * _DEPTHS[depth][0].expansion, channels


@BACKBONES.register()
class ResNet(Backbone):
    """Residual network with frozen stages and fixed statistics, as detectors fine-tune it.

    Convolutions start from He's normal distribution, norms at 1, with `zero_init_residual` the last norm of each block
    at 0. Keys are torchvision's: conv1, bn1, layer1.0.conv1, ...; with `deep_stem`: stem.0, stem.1, ...

    ResNeXt, Res2Net, ResNeSt and TridentNet are this network with other bottlenecks. With `rfp_inplanes` it takes the
    levels of a pyramid as feedback: the first block of each later stage has a convolution for it, rfp_conv, which
    starts at 0.

    Source: He et al., Deep Residual Learning; He et al., Bag of Tricks (deep stem and pooled shortcut); Qiao et al.,
    DetectoRS, section 3.2 (feedback).

    Args:
        depth: 18, 34, 50, 101, 152 or 200.
        block: makes bottlenecks of another kind; for depths of 50 and more.
        stem_channels: channels after the stem; None: base_channels.
        base_channels: channels inside the first stage's blocks; each later stage has twice as many.
        num_stages: 1 to 4.
        strides, dilations: of each stage's first block, and of its 3x3 convolutions.
        out_indices: the stages whose maps come out.
        style: where a Bottleneck has its stride.
        deep_stem: three 3x3 convolutions instead of one 7x7.
        avg_down: the shortcut averages before its 1x1 convolution instead of skipping cells.
        dcn: makes the 3x3 convolutions of bottlenecks in the stages for which `stage_with_dcn` is True.
        plugins: layers inside bottlenecks.
        rfp_inplanes: channels of the feedback; None without it.
        output_img: whether the pixels come out in front of the maps.
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
        block: BlockFactory | None = None,
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
        dcn: ConvFactory | None = None,
        stage_with_dcn: Sequence[bool] = (False, False, False, False),
        plugins: Sequence[BlockPlugin] = (),
        rfp_inplanes: int | None = None,
        output_img: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
    ) -> None:
        super().__init__()
        _check(depth, num_stages, strides, dilations, out_indices, style, frozen_stages)
        _check_extras(depth, num_stages, block, dcn, stage_with_dcn, plugins)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.deep_stem = deep_stem
        self.output_img = output_img
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
        kind, blocks = _DEPTHS[depth]
        kind = block or kind
        self.stage_names = tuple(f"layer{i + 1}" for i in range(num_stages))
        for stage, name in enumerate(self.stage_names):
            layers = BlockLayers(
                conv=conv,
                spatial=dcn if dcn is not None and stage_with_dcn[stage] else None,
                norm=norm,
                style=style,
                plugins=tuple(plugin for plugin in plugins if plugin.is_in(stage)),
                base_channels=base_channels,
                stage=stage,
            )
            channels = base_channels * 2**stage
            parts = make_stage(
                kind,
                blocks[stage],
                width,
                channels,
                layers,
                stride=strides[stage],
                dilation=dilations[stage],
                avg_down=avg_down,
            )
            self.add_module(name, parts)
            width = channels * kind.expansion
            if rfp_inplanes is not None and stage > 0:
                parts[0].add_module("rfp_conv", _feedback_conv(rfp_inplanes, width))
        init_residual(self, zero_init_residual, with_cp)
        self._freeze()

    def forward(self, x: Tensor, feedback: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of normalised pixels [B, in_channels, H, W].

        Args:
            feedback: a map [B, rfp_inplanes, H', W'] of each stage's size, of which that of the first is not used.
        """
        maps = [x] if self.output_img else []
        if self.deep_stem:
            x = self.stem(x)
        else:
            x = torch.relu(self.get_submodule(self.norm_name)(self.conv1(x)))
        x = self.maxpool(x)
        for index, name in enumerate(self.stage_names):
            stage = self.get_submodule(name)
            if feedback is None or index == 0:
                x = stage(x)
            else:
                first, *others = stage.children()
                x = first(x, first.get_submodule("rfp_conv")(feedback[index]))
                for block in others:
                    x = block(x)
            if index in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        stem = [self.stem] if self.deep_stem else [self.conv1, self.get_submodule(self.norm_name)]
        freeze((*stem, *(self.get_submodule(name) for name in self.stage_names[: self.frozen_stages])))


def _deep_stem(in_channels: int, channels: int, conv: ConvFactory, norm: NormFactory) -> nn.Sequential:
    half = channels // 2
    layers: list[nn.Module] = []
    for source, width, stride in ((in_channels, half, 2), (half, half, 1), (half, channels, 1)):
        layers += [conv(source, width, 3, stride=stride, padding=1, bias=False), norm(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _feedback_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    keep_init(conv)
    return conv


def init_residual(network: nn.Module, zero_init_residual: bool, saves_memory: bool) -> None:
    """Initialises convolutions, and sets what is the same for all residual blocks of a network."""
    init_kaiming(network)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            module.saves_memory = saves_memory
            if zero_init_residual:
                nn.init.zeros_(module.last_norm.get_parameter("weight"))


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


def _check_extras(
    depth: int,
    num_stages: int,
    block: BlockFactory | None,
    dcn: ConvFactory | None,
    stage_with_dcn: Sequence[bool],
    plugins: Sequence[BlockPlugin],
) -> None:
    if block is not None and depth < 50:
        raise ValueError(f"depth {depth} has no bottlenecks that `block` could replace: use 50 or more")
    if dcn is not None and len(stage_with_dcn) != num_stages:
        raise ValueError(f"stage_with_dcn needs a value for each of the {num_stages} stages, not {stage_with_dcn}")
    for plugin in plugins:
        if plugin.stages is not None and len(plugin.stages) != num_stages:
            raise ValueError(f"stages of a plugin needs {num_stages} values, not {tuple(plugin.stages)}")
