"""EfficientNet: inverted residual blocks with channel gates, scaled in width and depth together.

Letters: B images, C channels, H and W cells.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.backbones.mobilenet_v2 import InvertedResidual, divisible
from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, NormFactory, init_kaiming
from fastdet.models.layers.norm import batch_norm
from fastdet.models.layers.same_padding import SamePaddingConv2d
from fastdet.models.layers.squeeze import ChannelGate
from fastdet.models.layers.stochastic_depth import depth_rates
from fastdet.registry import BACKBONES

# Factors of width and depth.
ARCHS = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
    "b8": (2.2, 3.6),
}
# Expansion, channels, blocks, stride and kernel size: table 1 of the paper.
ROWS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
# The rows of each stage: a stage ends where the resolution does.
STAGES = ((0,), (1,), (2,), (3, 4), (5, 6))
STEM_CHANNELS, LAST_CHANNELS = 32, 1280
SQUEEZE = 4  # a block's input channels over those that its gate sees


@BACKBONES.register()
class EfficientNet(Backbone):
    """A small network of gated inverted residual blocks.

    Convolutions start from He's normal distribution. Keys: layers.0 for the stem, layers.1.i to layers.5.i for the
    blocks, layers.6 for the last convolution; layers after the last one that comes out are left out.
    Source: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks.

    Args:
        arch: a size, "b0" to "b8".
        drop_path_rate: the last block's probability of being left out; it grows from 0 for the first one.
        out_indices: 0 for the stem, 1 to 5 for the stages, 6 for the last convolution.
        frozen_stages: n freezes the first n layers.
        conv: the convolutions; None for ones with "SAME" padding.
        act: makes the activations; None for SiLU.
        norm_eval: batch norms use their stored statistics in training too.
        with_cp: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: an unknown size, indices out of range.
    """

    def __init__(
        self,
        arch: str = "b0",
        *,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (6,),
        frozen_stages: int = 0,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        act: ActFactory | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if arch not in ARCHS:
            raise ValueError(f"arch must be one of {', '.join(ARCHS)}, not {arch!r}")
        count = len(STAGES) + 2
        if not out_indices or not all(0 <= i < count for i in out_indices) or not 0 <= frozen_stages <= count:
            raise ValueError(
                f"out_indices must be from 0 to {count - 1} and frozen_stages from 0 to {count}, not "
                f"{tuple(out_indices)} and {frozen_stages}"
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        conv, norm, act = conv or SamePaddingConv2d, norm or batch_norm(eps=1e-3), act or nn.SiLU
        wider, deeper = ARCHS[arch]
        repeats = [math.ceil(deeper * blocks) for _, _, blocks, _, _ in ROWS]
        rates = iter(depth_rates(drop_path_rate, sum(repeats)))
        width = divisible(STEM_CHANNELS * wider)
        self.layers = nn.ModuleList([ConvModule(3, width, 3, stride=2, padding=1, conv=conv, norm=norm, act=act)])
        for rows in STAGES[: max(out_indices)]:
            blocks: list[nn.Module] = []
            for row in rows:
                expansion, channels, _, stride, kernel_size = ROWS[row]
                for index in range(repeats[row]):
                    goal = divisible(channels * wider)
                    block = InvertedResidual(
                        width,
                        goal,
                        width=width * expansion,
                        stride=1 if index else stride,
                        kernel_size=kernel_size,
                        gate=ChannelGate(width * expansion, width // SQUEEZE, act=act),
                        path_rate=next(rates),
                        conv=conv,
                        norm=norm,
                        act=act,
                    )
                    block.saves_memory = with_cp
                    blocks.append(block)
                    width = goal
            self.layers.append(nn.Sequential(*blocks))
        if max(out_indices) == count - 1:
            last = divisible(LAST_CHANNELS * wider)
            self.layers.append(ConvModule(width, last, 1, conv=conv, norm=norm, act=act))
        init_kaiming(self)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of normalised pixels [B, 3, H, W]."""
        maps = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def _freeze(self) -> None:
        freeze(self.layers[: self.frozen_stages])
