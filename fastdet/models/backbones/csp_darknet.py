"""The networks of YOLOX and RTMDet: cross-stage partial blocks, a pooling pyramid at the end.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.layers import (
    ActFactory,
    ConvFactory,
    ConvModule,
    DepthwiseSeparableConv,
    NormFactory,
    init_torch,
)
from fastdet.models.layers.csp import CSPLayer, PoolingPyramid
from fastdet.models.layers.norm import batch_norm
from fastdet.registry import BACKBONES


class CSPStage(NamedTuple):
    """Channels in and out, blocks, whether blocks add their input, whether a pooling pyramid comes first."""

    in_channels: int
    out_channels: int
    blocks: int
    add_identity: bool
    has_pyramid: bool


Arch = Literal["P5", "P6"]


def stages_of(arch: Arch, middle_blocks: int) -> tuple[CSPStage, ...]:
    """The stages of a size.

    Args:
        middle_blocks: of the second and third stage.

    Raises:
        ValueError: an unknown size.
    """
    start = (
        CSPStage(64, 128, 3, True, False),
        CSPStage(128, 256, middle_blocks, True, False),
        CSPStage(256, 512, middle_blocks, True, False),
    )
    if arch == "P5":
        return (*start, CSPStage(512, 1024, 3, False, True))
    if arch == "P6":
        return (*start, CSPStage(512, 768, 3, True, False), CSPStage(768, 1024, 3, False, True))
    raise ValueError(f"arch must be 'P5' or 'P6', not {arch!r}")


class Focus(nn.Module):
    """Each square of four pixels becomes one cell of four times the channels; then a convolution. Key: conv."""

    def __init__(
        self, out_channels: int, *, conv: ConvFactory | None = None, norm: NormFactory, act: ActFactory
    ) -> None:
        super().__init__()
        self.conv = ConvModule(12, out_channels, 3, padding=1, conv=conv, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, H / 2, W / 2]."""
        return self.conv(torch.cat([x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)], 1))


class CSPNet(Backbone):
    """A stem, then stages. Convolutions start from torch's uniform distribution. Keys: stem, stage1 to stage4 (5).

    Args:
        out_indices: 0 for the stem, then the stages.
        frozen_stages: the last frozen one of these; -1: none.

    Raises:
        ValueError: indices out of range.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        out_indices: Sequence[int],
        frozen_stages: int,
        norm_eval: bool,
    ) -> None:
        super().__init__()
        if not all(0 <= i <= len(stages) for i in out_indices):
            raise ValueError(f"out_indices must be from 0 to {len(stages)}, not {tuple(out_indices)}")
        if not -1 <= frozen_stages <= len(stages):
            raise ValueError(f"frozen_stages must be -1 to {len(stages)}, not {frozen_stages}")
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.stem = stem
        self.stage_names = ("stem", *(f"stage{number}" for number in range(1, len(stages) + 1)))
        for name, stage in zip(self.stage_names[1:], stages, strict=True):
            self.add_module(name, stage)
        init_torch(self)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of pixels [B, 3, H, W]."""
        return self._stage_maps(x)

    def _freeze(self) -> None:
        freeze(self.get_submodule(name) for name in self.stage_names[: self.frozen_stages + 1])


def _stages(
    stages: Sequence[CSPStage],
    *,
    deepen_factor: float,
    widen_factor: float,
    use_depthwise: bool,
    large_kernel: bool,
    expand_ratio: float,
    channel_attention: bool,
    spp_kernel_sizes: Sequence[int],
    conv: ConvFactory | None,
    norm: NormFactory,
    act: ActFactory,
) -> list[nn.Sequential]:
    down = DepthwiseSeparableConv if use_depthwise else ConvModule
    made = []
    for stage in stages:
        source, width = int(stage.in_channels * widen_factor), int(stage.out_channels * widen_factor)
        layers: list[nn.Module] = [down(source, width, 3, stride=2, padding=1, conv=conv, norm=norm, act=act)]
        if stage.has_pyramid:
            layers.append(PoolingPyramid(width, width, kernel_sizes=spp_kernel_sizes, conv=conv, norm=norm, act=act))
        layers.append(
            CSPLayer(
                width,
                width,
                num_blocks=max(round(stage.blocks * deepen_factor), 1),
                add_identity=stage.add_identity,
                use_depthwise=use_depthwise,
                large_kernel=large_kernel,
                expand_ratio=expand_ratio,
                channel_attention=channel_attention,
                conv=conv,
                norm=norm,
                act=act,
            )
        )
        made.append(nn.Sequential(*layers))
    return made


@BACKBONES.register("CSPDarknet")
def csp_darknet(
    *,
    arch: Arch = "P5",
    deepen_factor: float = 1.0,
    widen_factor: float = 1.0,
    out_indices: Sequence[int] = (2, 3, 4),
    frozen_stages: int = -1,
    use_depthwise: bool = False,
    spp_kernel_sizes: Sequence[int] = (5, 9, 13),
    conv: ConvFactory | None = None,
    norm: NormFactory | None = None,
    act: ActFactory | None = None,
    norm_eval: bool = False,
) -> CSPNet:
    """The network of YOLOX.

    Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021.

    Args:
        arch: "P5" for four stages, "P6" for five.
        deepen_factor, widen_factor: of the number of blocks and of channels.
        use_depthwise: 3x3 convolutions are separable ones.
        spp_kernel_sizes: squares of the pooling pyramid.
        norm: None for batch norm with momentum 0.03 and eps 0.001.
        act: None for SiLU.

    Raises:
        ValueError: an unknown size, or indices out of range.
    """
    norm, act = norm or batch_norm(eps=0.001, momentum=0.03), act or nn.SiLU
    stages = _stages(
        stages_of(arch, middle_blocks=9),
        deepen_factor=deepen_factor,
        widen_factor=widen_factor,
        use_depthwise=use_depthwise,
        large_kernel=False,
        expand_ratio=0.5,
        channel_attention=False,
        spp_kernel_sizes=spp_kernel_sizes,
        conv=conv,
        norm=norm,
        act=act,
    )
    stem = Focus(int(64 * widen_factor), conv=conv, norm=norm, act=act)
    return CSPNet(stem, stages, out_indices, frozen_stages, norm_eval)


@BACKBONES.register("CSPNeXt")
def csp_next(
    *,
    arch: Arch = "P5",
    deepen_factor: float = 1.0,
    widen_factor: float = 1.0,
    out_indices: Sequence[int] = (2, 3, 4),
    frozen_stages: int = -1,
    use_depthwise: bool = False,
    expand_ratio: float = 0.5,
    spp_kernel_sizes: Sequence[int] = (5, 9, 13),
    channel_attention: bool = True,
    conv: ConvFactory | None = None,
    norm: NormFactory | None = None,
    act: ActFactory | None = None,
    norm_eval: bool = False,
) -> CSPNet:
    """The network of RTMDet: large kernels and channel attention.

    Source: Lyu et al., RTMDet, section 3.2.

    Args:
        expand_ratio: channels of each half of a stage over those of the stage.
        channel_attention: each stage weights its channels.
        arch, deepen_factor, widen_factor, use_depthwise, spp_kernel_sizes, norm, act: as those of CSPDarknet.

    Raises:
        ValueError: an unknown size, or indices out of range.
    """
    norm, act = norm or batch_norm(eps=0.001, momentum=0.03), act or nn.SiLU
    stages = _stages(
        stages_of(arch, middle_blocks=6),
        deepen_factor=deepen_factor,
        widen_factor=widen_factor,
        use_depthwise=use_depthwise,
        large_kernel=True,
        expand_ratio=expand_ratio,
        channel_attention=channel_attention,
        spp_kernel_sizes=spp_kernel_sizes,
        conv=conv,
        norm=norm,
        act=act,
    )
    half, full = int(64 * widen_factor // 2), int(64 * widen_factor)
    stem = nn.Sequential(
        ConvModule(3, half, 3, stride=2, padding=1, norm=norm, act=act),
        ConvModule(half, half, 3, padding=1, norm=norm, act=act),
        ConvModule(half, full, 3, padding=1, norm=norm, act=act),
    )
    return CSPNet(stem, stages, out_indices, frozen_stages, norm_eval)
