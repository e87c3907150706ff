"""NASFPN: a pyramid whose connections were searched.

Letters: B images, H and W cells.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.layers import ConvModule, NormFactory, init_caffe2_xavier
from fastdet.models.necks.merge import MergeCell, add, attend
from fastdet.registry import NECKS

NUM_LEVELS = 5


@NECKS.register()
class NASFPN(nn.Module):
    """Five levels, merged again and again in the order that was searched for RetinaNet.

    Convolutions start from Caffe2's Xavier distribution. Keys: lateral_convs.i, extra_downsamples.i.0,
    fpn_stages.i.gp_64_4.out_conv, ...
    Source: Ghiasi et al., NAS-FPN, figure 6.

    Args:
        in_channels: of each level that comes in.
        out_channels: of every level that goes out.
        num_outs: five.
        stack_times: how often the pyramid is run through.
        start_level, end_level: the first and last level that is used (end_level -1: the last one there is).
        norm: of all convolutions; without norm they have a bias.

    Raises:
        ValueError: levels out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        *,
        stack_times: int,
        start_level: int = 0,
        end_level: int = -1,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        last = len(in_channels) - 1 if end_level == -1 else end_level
        extra = num_outs - (last - start_level + 1)
        if not 0 <= start_level <= last < len(in_channels) or num_outs != NUM_LEVELS or extra < 0:
            raise ValueError(
                f"NASFPN gives {NUM_LEVELS} levels from at most that many, not {num_outs} from {start_level} to {last} "
                f"of {len(in_channels)}"
            )
        self.num_ins = len(in_channels)
        self.start_level = start_level
        self.lateral_convs = nn.ModuleList(
            ConvModule(in_channels[level], out_channels, 1, norm=norm, act=False)
            for level in range(start_level, last + 1)
        )
        self.extra_downsamples = nn.ModuleList(
            nn.Sequential(ConvModule(out_channels, out_channels, 1, norm=norm, act=False), nn.MaxPool2d(2, 2))
            for _ in range(extra)
        )
        self.fpn_stages = nn.ModuleList(_Merges(out_channels, norm) for _ in range(stack_times))
        init_caffe2_xavier(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Five levels [B, out_channels, H, W], finest first, from as many levels as `in_channels` has.

        Raises:
            ValueError: another number of levels.
        """
        if len(levels) != self.num_ins:
            raise ValueError(f"NASFPN was built for {self.num_ins} levels and was given {len(levels)}")
        maps = [conv(levels[self.start_level + i]) for i, conv in enumerate(self.lateral_convs)]
        for layer in self.extra_downsamples:
            maps.append(layer(maps[-1]))
        for stage in self.fpn_stages:
            maps = stage(maps)
        return tuple(maps)


class _Merges(nn.Module):
    """One run through the pyramid. A cell's name says what it merges into which level."""

    def __init__(self, channels: int, norm: NormFactory | None) -> None:
        super().__init__()
        self.gp_64_4 = MergeCell(attend, channels, norm)
        self.sum_44_4 = MergeCell(add, channels, norm)
        self.sum_43_3 = MergeCell(add, channels, norm)
        self.sum_34_4 = MergeCell(add, channels, norm)
        self.gp_43_5 = MergeCell(attend)
        self.sum_55_5 = MergeCell(add, channels, norm)
        self.gp_54_7 = MergeCell(attend)
        self.sum_77_7 = MergeCell(add, channels, norm)
        self.gp_75_6 = MergeCell(attend, channels, norm)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Levels 3 to 7 to levels 3 to 7."""
        p3, p4, p5, p6, p7 = maps
        s3, s4, s5, s6, s7 = (x.shape[2:] for x in maps)
        inner = self.sum_44_4(self.gp_64_4(p6, p4, s4), p4, s4)
        p3 = self.sum_43_3(inner, p3, s3)
        p4 = self.sum_34_4(p3, inner, s4)
        p5 = self.sum_55_5(p5, self.gp_43_5(p4, p3, s5), s5)
        p7 = self.sum_77_7(p7, self.gp_54_7(p5, inner, s7), s7)
        p6 = self.gp_75_6(p7, p5, s6)
        return [p3, p4, p5, p6, p7]
