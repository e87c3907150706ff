"""MobileNetV2: inverted residual blocks.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.layers import (
    ActFactory,
    ConvFactory,
    ConvModule,
    Initialiser,
    NormFactory,
    init_kaiming,
)
from fastdet.models.layers.norm import batch_norm
from fastdet.models.layers.stochastic_depth import drop_path
from fastdet.registry import BACKBONES

# Expansion, channels, blocks and stride of each stage: table 2 of the paper.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
LAST_CHANNELS = 1280
DIVISOR = 8  # of all widths


class InvertedResidual(nn.Module):
    """A depthwise convolution between two 1x1 ones, of which the first widens; added to the input if shapes allow.

    Keys: expand_conv (where `width` is not `in_channels`), depthwise_conv, se (with a gate), linear_conv.
    Source: Sandler et al., MobileNetV2, section 3.3.

    Args:
        width: channels of the depthwise convolution.
        gate: weights the channels after the depthwise convolution.
        path_rate: probability that the block passes its input on alone.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        stride: int,
        kernel_size: int = 3,
        gate: nn.Module | None = None,
        path_rate: float = 0.0,
        conv: ConvFactory | None,
        norm: NormFactory,
        act: ActFactory,
    ) -> None:
        super().__init__()
        self.is_residual = stride == 1 and in_channels == out_channels
        self.saves_memory = False
        self.expand_conv = (
            ConvModule(in_channels, width, 1, conv=conv, norm=norm, act=act) if width != in_channels else nn.Identity()
        )
        self.depthwise_conv = ConvModule(
            width,
            width,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=width,
            conv=conv,
            norm=norm,
            act=act,
        )
        self.se = gate or nn.Identity()
        self.path = drop_path(path_rate)
        self.linear_conv = ConvModule(width, out_channels, 1, conv=conv, norm=norm, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        if self.saves_memory and x.requires_grad:
            return checkpoint(self._transform, x, use_reentrant=False)
        return self._transform(x)

    def _transform(self, x: Tensor) -> Tensor:
        out = self.linear_conv(self.se(self.depthwise_conv(self.expand_conv(x))))
        return x + self.path(out) if self.is_residual else out


@BACKBONES.register()
class MobileNetV2(Backbone):
    """A small network of inverted residual blocks.

    Convolutions start from He's normal distribution. Keys: conv1, layer1 to layer7, conv2.
    Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks.

    Args:
        widen_factor: of all channels.
        out_indices: 0 to 6 for the stages, 7 for the last convolution.
        frozen_stages: 0 freezes the first convolution, n also the first n stages; -1 nothing. The first convolution's
            norm keeps updating its statistics, as in MMDetection.
        act: makes the activations; None for ReLU6.
        init: initialises the convolutions in another way.

    Raises:
        ValueError: indices out of range.
    """

    def __init__(
        self,
        *,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (1, 2, 4, 7),
        frozen_stages: int = -1,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        act: ActFactory | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        init: Initialiser | None = None,
    ) -> None:
        super().__init__()
        if not all(0 <= i <= len(STAGES) for i in out_indices):
            raise ValueError(f"out_indices must be from 0 to {len(STAGES)}, not {tuple(out_indices)}")
        if not -1 <= frozen_stages <= len(STAGES):
            raise ValueError(f"frozen_stages must be -1 to {len(STAGES)}, not {frozen_stages}")
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        norm, act = norm or batch_norm(), act or nn.ReLU6
        width = divisible(32 * widen_factor)
        self.conv1 = ConvModule(3, width, 3, stride=2, padding=1, conv=conv, norm=norm, act=act)
        for number, (expansion, channels, blocks, stride) in enumerate(STAGES, start=1):
            layers = []
            for index in range(blocks):
                goal = divisible(channels * widen_factor)
                layers.append(
                    InvertedResidual(
                        width,
                        goal,
                        width=width * expansion,
                        stride=1 if index else stride,
                        conv=conv,
                        norm=norm,
                        act=act,
                    )
                )
                layers[-1].saves_memory = with_cp
                width = goal
            self.add_module(f"layer{number}", nn.Sequential(*layers))
        last = int(LAST_CHANNELS * max(widen_factor, 1.0))
        self.conv2 = ConvModule(width, last, 1, conv=conv, norm=norm, act=act)
        self.stage_names = (*(f"layer{number}" for number in range(1, len(STAGES) + 1)), "conv2")
        (init or init_kaiming)(self)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of normalised pixels [B, 3, H, W]."""
        x = self.conv1(x)
        return self._stage_maps(x)

    def _freeze(self) -> None:
        if self.frozen_stages >= 0:
            self.conv1.requires_grad_(False)
            freeze(self.get_submodule(name) for name in self.stage_names[: self.frozen_stages])


def divisible(width: float, divisor: int = DIVISOR) -> int:
    """The nearest multiple of the divisor, the next one if that is less than nine tenths of the width."""
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * width else nearest
