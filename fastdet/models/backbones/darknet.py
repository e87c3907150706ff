"""Darknet: the network of YOLOv3.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from fastdet.models.backbones.freezing import Backbone, freeze
from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, NormFactory, init_kaiming
from fastdet.models.layers.norm import batch_norm
from fastdet.registry import BACKBONES

BLOCKS = {53: (1, 2, 8, 8, 4)}
STEM_CHANNELS = 32
SLOPE = 0.1  # of the leaky activations


class DarknetBlock(nn.Module):
    """A 1x1 convolution to half of the channels and a 3x3 one back, added to the input. Keys: conv1, conv2.

    Source: Redmon and Farhadi, YOLOv3, table 1.
    """

    def __init__(self, channels: int, *, conv: ConvFactory | None, norm: NormFactory, act: ActFactory) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels // 2, 1, conv=conv, norm=norm, act=act)
        self.conv2 = ConvModule(channels // 2, channels, 3, padding=1, conv=conv, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x + self.conv2(self.conv1(x))


@BACKBONES.register()
class Darknet(Backbone):
    """Darknet-53.

    Convolutions start from He's normal distribution. Keys: conv1, conv_res_blockI.conv, conv_res_blockI.resJ.

    Args:
        depth: 53.
        out_indices: 0 for the first convolution, 1 to 5 for the stages.
        frozen_stages: how many of these are frozen, the first ones first; -1 and 0: none.
        act: makes the activations; None for a leaky ReLU of slope 0.1.

    Raises:
        ValueError: another depth, or indices out of range.
    """

    def __init__(
        self,
        depth: int = 53,
        *,
        out_indices: Sequence[int] = (3, 4, 5),
        frozen_stages: int = -1,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        act: ActFactory | None = None,
        norm_eval: bool = True,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"Darknet depth must be 53, not {depth}")
        stages = len(BLOCKS[depth])
        if not all(0 <= i <= stages for i in out_indices):
            raise ValueError(f"out_indices must be from 0 to {stages}, not {tuple(out_indices)}")
        if not -1 <= frozen_stages <= stages + 1:
            raise ValueError(f"frozen_stages must be -1 to {stages + 1}, not {frozen_stages}")
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        norm, act = norm or batch_norm(), act or partial(nn.LeakyReLU, SLOPE)
        width = STEM_CHANNELS
        self.conv1 = ConvModule(3, width, 3, padding=1, conv=conv, norm=norm, act=act)
        for number, blocks in enumerate(BLOCKS[depth], start=1):
            stage = nn.Sequential()
            down = ConvModule(width, 2 * width, 3, stride=2, padding=1, conv=conv, norm=norm, act=act)
            stage.add_module("conv", down)
            width *= 2
            for index in range(blocks):
                stage.add_module(f"res{index}", DarknetBlock(width, conv=conv, norm=norm, act=act))
            self.add_module(f"conv_res_block{number}", stage)
        self.stage_names = ("conv1", *(f"conv_res_block{number}" for number in range(1, stages + 1)))
        init_kaiming(self)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first, of normalised pixels [B, 3, H, W]."""
        return self._stage_maps(x)

    def _freeze(self) -> None:
        freeze(self.get_submodule(name) for name in self.stage_names[: max(self.frozen_stages, 0)])
