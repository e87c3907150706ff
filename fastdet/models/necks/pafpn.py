"""PAFPN: a feature pyramid with a second, bottom-up path.

Letters: B images, H and W cells.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, NormFactory, init_xavier
from fastdet.models.necks.fpn import FPN, ExtraSource
from fastdet.registry import NECKS


@NECKS.register()
class PAFPN(nn.Module):
    """FPN's levels, each enriched by the finer ones too.

    Convolutions start from Glorot's uniform distribution. Keys: FPN's, downsample_convs.i.conv, pafpn_convs.i.conv.
    Source: Liu et al., Path Aggregation Network for Instance Segmentation, section 3.1.

    Args and Raises: as those of FPN.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        *,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | ExtraSource = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        act: ActFactory | bool = False,
    ) -> None:
        super().__init__()
        pyramid = FPN(
            in_channels,
            out_channels,
            num_outs,
            start_level=start_level,
            end_level=end_level,
            add_extra_convs=add_extra_convs,
            relu_before_extra_convs=relu_before_extra_convs,
            no_norm_on_lateral=no_norm_on_lateral,
            conv=conv,
            norm=norm,
            act=act,
        )
        self.num_ins, self.num_outs = pyramid.num_ins, num_outs
        self.start_level, self.last_level = start_level, pyramid.last_level
        self.extra_source = pyramid.extra_source
        self.relu_before_extra_convs = relu_before_extra_convs
        self.lateral_convs, self.fpn_convs = pyramid.lateral_convs, pyramid.fpn_convs
        steps = len(self.lateral_convs) - 1
        self.downsample_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, stride=2, padding=1, norm=norm, conv=conv, act=act)
            for _ in range(steps)
        )
        self.pafpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, norm=norm, conv=conv, act=act) for _ in range(steps)
        )
        init_xavier(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`num_outs` levels [B, out_channels, H, W], finest first, from as many levels as `in_channels` has.

        Raises:
            ValueError: another number of levels.
        """
        if len(levels) != self.num_ins:
            raise ValueError(f"PAFPN was built for {self.num_ins} levels and was given {len(levels)}")
        laterals = [conv(levels[self.start_level + i]) for i, conv in enumerate(self.lateral_convs)]
        used = len(laterals)
        for i in range(used - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + F.interpolate(laterals[i], size=laterals[i - 1].shape[2:])
        maps = [self.fpn_convs[i](lateral) for i, lateral in enumerate(laterals)]
        for i, conv in enumerate(self.downsample_convs):
            maps[i + 1] = maps[i + 1] + conv(maps[i])
        outs = [maps[0], *(conv(x) for conv, x in zip(self.pafpn_convs, maps[1:], strict=True))]
        return tuple(self._extend(outs, levels, laterals))

    def _extend(self, outs: list[Tensor], levels: Sequence[Tensor], laterals: Sequence[Tensor]) -> list[Tensor]:
        """The levels with the extra ones."""
        if self.extra_source is None:
            while len(outs) < self.num_outs:
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
            return outs
        used = len(outs)
        sources = {"on_input": levels[self.last_level], "on_lateral": laterals[-1], "on_output": outs[-1]}
        source = sources[self.extra_source]
        for i in range(used, self.num_outs):
            if i > used and self.relu_before_extra_convs:
                source = torch.relu(source)
            source = self.fpn_convs[i](source)
            outs.append(source)
        return outs
