"""The pyramids of YOLOX and RTMDet: down and up again through cross-stage partial layers.

Letters: B images, H and W cells.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fastdet.models.layers import (
    ActFactory,
    ConvFactory,
    ConvModule,
    DepthwiseSeparableConv,
    NormFactory,
    init_torch,
)
from fastdet.models.layers.csp import CSPLayer
from fastdet.models.layers.norm import batch_norm
from fastdet.registry import NECKS


class CSPPyramid(nn.Module):
    """Each level joined with the coarser ones, then with the finer ones.

    Convolutions start from torch's uniform distribution.
    Keys: reduce_layers.i, top_down_blocks.i, downsamples.i, bottom_up_blocks.i, out_convs.i.

    Args:
        make_csp: a layer of so many channels in and out.
        make_conv: a 3x3 convolution of that width and stride.
        make_reduction: a 1x1 convolution of so many channels in and out.
        make_out: the last convolution, of so many channels in.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        make_csp: Callable[[int, int], nn.Module],
        make_down: Callable[[int], nn.Module],
        make_reduction: Callable[[int, int], nn.Module],
        make_out: Callable[[int], nn.Module],
        upsample_mode: str,
    ) -> None:
        super().__init__()
        self.num_ins = len(in_channels)
        pairs = list(pairwise(in_channels))  # finer, coarser
        self.upsample = nn.Upsample(scale_factor=2, mode=upsample_mode)
        self.reduce_layers = nn.ModuleList(make_reduction(coarse, fine) for fine, coarse in reversed(pairs))
        self.top_down_blocks = nn.ModuleList(make_csp(2 * fine, fine) for fine, _ in reversed(pairs))
        self.downsamples = nn.ModuleList(make_down(fine) for fine, _ in pairs)
        self.bottom_up_blocks = nn.ModuleList(make_csp(2 * fine, coarse) for fine, coarse in pairs)
        self.out_convs = nn.ModuleList(make_out(width) for width in in_channels)
        init_torch(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As many levels [B, out_channels, H, W], finest first, as come in; each half as fine as the one before.

        Raises:
            ValueError: another number of levels.
        """
        if len(levels) != self.num_ins:
            raise ValueError(f"the neck was built for {self.num_ins} levels and was given {len(levels)}")
        x, reduced = levels[-1], []
        steps = zip(self.reduce_layers, self.top_down_blocks, reversed(levels[:-1]), strict=True)
        for reduce, block, fine in steps:
            reduced.append(reduce(x))
            x = block(torch.cat((self.upsample(reduced[-1]), fine), 1))
        outs = [x]
        for down, block, coarse in zip(self.downsamples, self.bottom_up_blocks, reversed(reduced), strict=True):
            outs.append(block(torch.cat((down(outs[-1]), coarse), 1)))
        return tuple(conv(x) for conv, x in zip(self.out_convs, outs, strict=True))


@NECKS.register("YOLOXPAFPN")
def yolox_pafpn(
    in_channels: Sequence[int],
    out_channels: int,
    *,
    num_csp_blocks: int = 3,
    use_depthwise: bool = False,
    upsample_mode: str = "nearest",
    conv: ConvFactory | None = None,
    norm: NormFactory | None = None,
    act: ActFactory | None = None,
) -> CSPPyramid:
    """The pyramid of YOLOX.

    Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021.

    Args:
        in_channels: of each level that comes in.
        out_channels: of every level that goes out.
        num_csp_blocks: blocks of each layer.
        use_depthwise: 3x3 convolutions are separable ones.
        norm: None for batch norm with momentum 0.03 and eps 0.001.
        act: None for SiLU.
    """
    norm, act = norm or batch_norm(eps=0.001, momentum=0.03), act or nn.SiLU
    strided = DepthwiseSeparableConv if use_depthwise else ConvModule
    return CSPPyramid(
        in_channels,
        lambda source, goal: CSPLayer(
            source,
            goal,
            num_blocks=num_csp_blocks,
            add_identity=False,
            use_depthwise=use_depthwise,
            conv=conv,
            norm=norm,
            act=act,
        ),
        lambda width: strided(width, width, 3, stride=2, padding=1, conv=conv, norm=norm, act=act),
        lambda source, goal: ConvModule(source, goal, 1, conv=conv, norm=norm, act=act),
        lambda width: ConvModule(width, out_channels, 1, conv=conv, norm=norm, act=act),
        upsample_mode,
    )


@NECKS.register("CSPNeXtPAFPN")
def csp_next_pafpn(
    in_channels: Sequence[int],
    out_channels: int,
    *,
    num_csp_blocks: int = 3,
    use_depthwise: bool = False,
    expand_ratio: float = 0.5,
    upsample_mode: str = "nearest",
    conv: ConvFactory | None = None,
    norm: NormFactory | None = None,
    act: ActFactory | None = None,
) -> CSPPyramid:
    """The pyramid of RTMDet: large kernels, a 3x3 convolution at the end.

    Source: Lyu et al., RTMDet, section 3.2.

    Args:
        expand_ratio: channels of each half of a layer over those of the layer.
        in_channels, out_channels, num_csp_blocks, use_depthwise, norm, act: as those of YOLOXPAFPN.
    """
    norm, act = norm or batch_norm(eps=0.001, momentum=0.03), act or nn.SiLU
    strided = DepthwiseSeparableConv if use_depthwise else ConvModule
    return CSPPyramid(
        in_channels,
        lambda source, goal: CSPLayer(
            source,
            goal,
            num_blocks=num_csp_blocks,
            add_identity=False,
            use_depthwise=use_depthwise,
            large_kernel=True,
            expand_ratio=expand_ratio,
            conv=conv,
            norm=norm,
            act=act,
        ),
        lambda width: strided(width, width, 3, stride=2, padding=1, conv=conv, norm=norm, act=act),
        lambda source, goal: ConvModule(source, goal, 1, conv=conv, norm=norm, act=act),
        lambda width: strided(width, out_channels, 3, padding=1, conv=conv, norm=norm, act=act),
        upsample_mode,
    )
