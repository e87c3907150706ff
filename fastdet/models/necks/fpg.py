"""FPG: a grid of pyramids, each bottom-up and fed by the one before.

Letters: B images, H and W cells.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers import ConvModule, NormFactory, init_caffe2_xavier
from fastdet.registry import NECKS

ORDER = ("act", "conv", "norm")


class GridCell(nn.Module):
    """A level of a pyramid: the sum of what the neighbours in the grid give it.

    Keys: same_up (from the finer level of this pyramid), across_lateral and across_down (from this and the coarser
    level of the pyramid before), across_skip (from the grid's input).
    Source: Chen et al., Feature Pyramid Grids, section 3.2.
    """

    def __init__(self, channels: int, is_finest: bool, is_coarsest: bool, norm: NormFactory | None) -> None:
        super().__init__()
        self.same_up = None
        self.across_down = None
        if not is_finest:
            self.same_up = ConvModule(channels, channels, 3, stride=2, padding=1, norm=norm, order=ORDER)
        self.across_lateral = ConvModule(channels, channels, 1, norm=norm, order=ORDER)
        if not is_coarsest:
            self.across_down = _Upsampled(channels, norm)
        self.across_skip = ConvModule(channels, channels, 1, norm=norm, order=ORDER)

    def forward(self, same: Tensor | None, before: Tensor, coarser: Tensor | None, first: Tensor) -> Tensor:
        """[B, channels, H, W] of the four neighbours' maps; None where there is no neighbour."""
        out = self.across_lateral(before)
        if self.same_up is not None:
            out = self.same_up(same) + out
        if self.across_down is not None:
            out = out + self.across_down(coarser, before)
        return out + self.across_skip(first)


class _Upsampled(nn.Module):
    """A map at the size of another, then convolved. Key: conv."""

    def __init__(self, channels: int, norm: NormFactory | None) -> None:
        super().__init__()
        self.conv = ConvModule(channels, channels, 3, padding=1, norm=norm, order=ORDER)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, size=like.shape[2:], mode="nearest"))


class _Output(nn.Module):
    """The last convolution of a level. Key: conv_out."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_out = ConvModule(in_channels, out_channels, 3, padding=1, order=ORDER)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(x)


@NECKS.register()
class FPG(nn.Module):
    """Levels that go through a grid of bottom-up pyramids.

    Convolutions start from Caffe2's Xavier distribution. Keys: lateral_convs.i, extra_downsamples.i,
    fpn_transitions.s.i, output_transition.i.
    Source: Chen et al., Feature Pyramid Grids.

    Args:
        in_channels: of each level that comes in.
        out_channels: of every level that goes out.
        num_outs: how many levels go out.
        stack_times: how many pyramids the grid has.
        skip_inds: for each level the pyramids that pass it on as it is.
        inter_channels: of every level inside the grid; None: out_channels.
        start_level, end_level: the first and last level that is used (end_level -1: the last one there is).
        add_extra_convs: whether extra levels are convolved from the one before; else they are every second cell of it.
        norm: of the grid's convolutions.

    Raises:
        ValueError: levels out of range, or a list of the wrong length.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        *,
        stack_times: int,
        skip_inds: Sequence[Sequence[int]],
        inter_channels: int | None = None,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool = False,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        last = len(in_channels) - 1 if end_level == -1 else end_level
        used = last - start_level + 1
        if not 0 <= start_level <= last < len(in_channels) or num_outs < used:
            raise ValueError(
                f"FPG uses levels {start_level} to {last} of {len(in_channels)} and cannot give {num_outs} of them"
            )
        if len(skip_inds) != num_outs:
            raise ValueError(f"skip_inds needs a list for each of the {num_outs} levels, not {tuple(skip_inds)}")
        self.num_ins = len(in_channels)
        self.start_level = start_level
        self.skips = tuple(frozenset(pyramids) for pyramids in skip_inds)
        width = inter_channels or out_channels
        self.lateral_convs = nn.ModuleList(
            nn.Conv2d(in_channels[level], width, 1) for level in range(start_level, last + 1)
        )
        self.extra_downsamples = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride=2, padding=1) if add_extra_convs else nn.MaxPool2d(1, stride=2)
            for _ in range(num_outs - used)
        )
        self.fpn_transitions = nn.ModuleList(
            nn.ModuleList(
                nn.Identity()
                if pyramid in self.skips[level]
                else GridCell(width, level == 0, level == num_outs - 1, norm)
                for level in range(num_outs)
            )
            for pyramid in range(stack_times)
        )
        self.output_transition = nn.ModuleList(_Output(width, out_channels) for _ in range(num_outs))
        init_caffe2_xavier(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`num_outs` levels [B, out_channels, H, W], finest first, from as many levels as `in_channels` has.

        Raises:
            ValueError: another number of levels.
        """
        if len(levels) != self.num_ins:
            raise ValueError(f"FPG was built for {self.num_ins} levels and was given {len(levels)}")
        first = [conv(levels[self.start_level + i]) for i, conv in enumerate(self.lateral_convs)]
        for layer in self.extra_downsamples:
            first.append(layer(first[-1]))
        maps = first
        for pyramid, cells in enumerate(self.fpn_transitions):
            before, maps = maps, []
            for level, cell in enumerate(cells.children()):
                if pyramid in self.skips[level]:
                    maps.append(before[level])
                    continue
                coarser = before[level + 1] if level + 1 < len(before) else None
                maps.append(cell(maps[-1] if maps else None, before[level], coarser, first[level]))
        return tuple(layer(x) for layer, x in zip(self.output_transition, maps, strict=True))
