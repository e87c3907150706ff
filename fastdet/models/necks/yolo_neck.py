"""YOLOV3Neck: each level joined with the coarser ones.

Letters: B images, H and W cells.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, NormFactory
from fastdet.models.layers.norm import batch_norm
from fastdet.registry import NECKS

SLOPE = 0.1  # of the leaky activations


@NECKS.register()
class YOLOV3Neck(nn.Module):
    """Five convolutions a level, then the way up to the next finer one. Levels go out coarsest first.

    Keys: detectI.convJ, convI. Source: Redmon and Farhadi, YOLOv3, section 2.3.

    Args:
        in_channels, out_channels: of each level, coarsest first.
        act: makes the activations; None for a leaky ReLU of slope 0.1.

    Raises:
        ValueError: lists of different lengths.
    """

    def __init__(
        self,
        num_scales: int,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        *,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        act: ActFactory | None = None,
    ) -> None:
        super().__init__()
        if not num_scales == len(in_channels) == len(out_channels):
            raise ValueError(
                f"in_channels {tuple(in_channels)} and out_channels {tuple(out_channels)} need num_scales "
                f"({num_scales}) values each"
            )
        self.num_scales = num_scales
        norm, act = norm or batch_norm(), act or partial(nn.LeakyReLU, SLOPE)
        for i, (source, width) in enumerate(zip(in_channels, out_channels, strict=True)):
            if i > 0:
                self.add_module(f"conv{i}", ConvModule(out_channels[i - 1], width, 1, conv=conv, norm=norm, act=act))
                source += width
            block = nn.Sequential()
            for number, (size, goal) in enumerate(((1, 1), (3, 2), (1, 1), (3, 2), (1, 1)), start=1):
                layer = ConvModule(source, goal * width, size, padding=size // 2, conv=conv, norm=norm, act=act)
                block.add_module(f"conv{number}", layer)
                source = goal * width
            self.add_module(f"detect{i + 1}", block)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels [B, C, H, W], coarsest first, of levels finest first, each half as fine as the one before.

        Raises:
            ValueError: another number of levels.
        """
        if len(levels) != self.num_scales:
            raise ValueError(f"YOLOV3Neck was built for {self.num_scales} levels and was given {len(levels)}")
        outs = [self.get_submodule("detect1")(levels[-1])]
        for i, x in enumerate(reversed(levels[:-1]), start=1):
            coarse = F.interpolate(self.get_submodule(f"conv{i}")(outs[-1]), scale_factor=2.0)
            outs.append(self.get_submodule(f"detect{i + 1}")(torch.cat((coarse, x), 1)))
        return tuple(outs)
