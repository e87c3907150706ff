"""MobileNetV3: inverted residual blocks with gates and hard activations, found by search.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.backbones.mobilenet_v2 import InvertedResidual, divisible
from fastdet.models.layers import ConvFactory, ConvModule, NormFactory, init_kaiming
from fastdet.models.layers.norm import batch_norm
from fastdet.models.layers.squeeze import ChannelGate
from fastdet.registry import BACKBONES

STEM_CHANNELS = 16
SQUEEZE = 4  # a block's inner channels over those that its gate sees
# Kernel size, inner channels, channels, gate, hard swish, stride of each block: tables 1 and 2 of the paper, and the
# two narrower networks that MMPretrain has.
Row = tuple[int, int, int, bool, bool, int]


def _small(inner: Sequence[int], channels: Sequence[int]) -> tuple[Row, ...]:
    """The rows of table 2 with these widths."""
    kernel_sizes = (3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5)
    strides = (2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1)
    gated = (True, False, False, *[True] * 8)
    hard = (*[False] * 3, *[True] * 8)
    return tuple(zip(kernel_sizes, inner, channels, gated, hard, strides, strict=True))


ARCHS: dict[str, tuple[Row, ...]] = {
    "small": _small((16, 72, 88, 96, 240, 240, 120, 144, 288, 576, 576), (16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96)),
    "small_075": _small(
        (16, 72, 88, 96, 192, 192, 96, 120, 240, 432, 432), (16, 24, 24, 32, 32, 32, 40, 40, 72, 72, 72)
    ),
    "small_050": _small((16, 40, 56, 64, 144, 144, 72, 72, 144, 288, 288), (8, 16, 16, 24, 24, 24, 24, 24, 48, 48, 48)),
    "large": (
        (3, 16, 16, False, False, 1),
        (3, 64, 24, False, False, 2),
        (3, 72, 24, False, False, 1),
        (5, 72, 40, True, False, 2),
        (5, 120, 40, True, False, 1),
        (5, 120, 40, True, False, 1),
        (3, 240, 80, False, True, 2),
        (3, 200, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 480, 112, True, True, 1),
        (3, 672, 112, True, True, 1),
        (5, 672, 160, True, True, 2),
        (5, 960, 160, True, True, 1),
        (5, 960, 160, True, True, 1),
    ),
}


@BACKBONES.register()
class MobileNetV3(Backbone):
    """A small network of gated inverted residual blocks.

    Convolutions start from He's normal distribution. Keys are MMPretrain's: layer0 for the stem, layer1, layer2, ...
    for the blocks, one more layer for the last convolution.
    Source: Howard et al., Searching for MobileNetV3.

    Args:
        arch: "small", "small_075", "small_050" or "large".
        out_indices: 0 for the stem, then the blocks, then the last convolution; None for that one alone.
        frozen_stages: n freezes the layers 0 to n; -1 nothing.
        norm: makes the norms; None for batch norms with MMPretrain's eps and momentum.
        norm_eval: batch norms use their stored statistics in training too.
        with_cp: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: an unknown size, indices out of range.
    """

    def __init__(
        self,
        arch: str = "small",
        *,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if arch not in ARCHS:
            raise ValueError(f"arch must be one of {', '.join(ARCHS)}, not {arch!r}")
        rows = ARCHS[arch]
        last = len(rows) + 1
        self.out_indices = (last,) if out_indices is None else tuple(out_indices)
        if not all(0 <= i <= last for i in self.out_indices) or not -1 <= frozen_stages <= last:
            raise ValueError(
                f"out_indices must be from 0 to {last} and frozen_stages from -1 to {last}, not {self.out_indices} "
                f"and {frozen_stages}"
            )
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        norm = norm or batch_norm(eps=1e-3, momentum=0.01)
        width = STEM_CHANNELS
        self.layer0 = ConvModule(3, width, 3, stride=2, padding=1, conv=conv, norm=norm, act=nn.Hardswish)
        for number, (kernel_size, inner, channels, is_gated, is_hard, stride) in enumerate(rows, start=1):
            block = InvertedResidual(
                width,
                channels,
                width=inner,
                stride=stride,
                kernel_size=kernel_size,
                gate=ChannelGate(inner, divisible(inner // SQUEEZE), weigh=nn.Hardsigmoid) if is_gated else None,
                conv=conv,
                norm=norm,
                act=nn.Hardswish if is_hard else nn.ReLU,
            )
            block.saves_memory = with_cp
            self.add_module(f"layer{number}", block)
            width = channels
        self.add_module(f"layer{last}", ConvModule(width, rows[-1][1], 1, conv=conv, norm=norm, act=nn.Hardswish))
        self.stage_names = tuple(f"layer{number}" for number in range(last + 1))
        init_kaiming(self)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of normalised pixels [B, 3, H, W]."""
        return self._stage_maps(x)

    def _freeze(self) -> None:
        freeze(self.get_submodule(name) for name in self.stage_names[: self.frozen_stages + 1])
