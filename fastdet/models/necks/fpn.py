"""FPN: the feature pyramid.

Letters: B images, H and W cells.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, Initialiser, NormFactory, init_xavier
from fastdet.registry import NECKS

ExtraSource = Literal["on_input", "on_lateral", "on_output"]


@NECKS.register()
class FPN(nn.Module):
    """Levels of equal width, each enriched by the coarser ones.

    Convolutions start from Glorot's uniform distribution. Keys: lateral_convs.i.conv, fpn_convs.i.conv.

    Source: Lin et al., Feature Pyramid Networks; extra levels by convolution: Lin et al., Focal Loss, section 4.

    Args:
        in_channels: of each level that comes in.
        out_channels: of every level that goes out.
        num_outs: how many levels go out.
        start_level, end_level: the first and last level that is used (end_level -1: the last one there is).
        add_extra_convs: what extra levels are convolved from: the last used input (also True), the last lateral or
            the last output; False: they are the last output, every second cell.
        relu_before_extra_convs: a ReLU before each extra convolution but the first.
        no_norm_on_lateral: lateral convolutions have a bias instead of `norm`.
        norm, conv: factories of the layers; without norm the convolutions have a bias.
        act: makes the activation after each convolution; True for a ReLU, False for none.
        upsample_mode: interpolation of the top-down path.
        upsample_scale: its fixed factor; None: to the size of the finer level.
        init: initialises the convolutions in another way.

    Raises:
        ValueError: levels or modes out of range.
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
        upsample_mode: str = "nearest",
        upsample_scale: float | None = None,
        init: Initialiser | None = None,
    ) -> None:
        super().__init__()
        last = len(in_channels) - 1 if end_level == -1 else end_level
        if not 0 <= start_level <= last < len(in_channels):
            raise ValueError(
                f"FPN levels must fulfil 0 <= start_level <= end_level < {len(in_channels)}, not start_level "
                f"{start_level}, end_level {end_level}"
            )
        used = last - start_level + 1
        if num_outs < used or (num_outs > used and last < len(in_channels) - 1):
            raise ValueError(
                f"FPN uses {used} levels up to {last} of {len(in_channels)}, so num_outs cannot be {num_outs}"
            )
        if add_extra_convs not in (True, False, "on_input", "on_lateral", "on_output"):
            raise ValueError(
                f"add_extra_convs must be a bool, 'on_input', 'on_lateral' or 'on_output', not {add_extra_convs!r}"
            )
        self.num_ins = len(in_channels)
        self.num_outs = num_outs
        self.start_level = start_level
        self.last_level = last
        self.extra_source: ExtraSource | None = "on_input" if add_extra_convs is True else add_extra_convs or None
        self.relu_before_extra_convs = relu_before_extra_convs
        self.upsample_mode = upsample_mode
        self.upsample_scale = upsample_scale
        lateral_norm = None if no_norm_on_lateral else norm
        self.lateral_convs = nn.ModuleList(
            ConvModule(in_channels[level], out_channels, 1, norm=lateral_norm, conv=conv, act=act)
            for level in range(start_level, last + 1)
        )
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, norm=norm, conv=conv, act=act) for _ in range(used)
        )
        for index in range(num_outs - used if self.extra_source else 0):
            width = in_channels[last] if index == 0 and self.extra_source == "on_input" else out_channels
            self.fpn_convs.append(
                ConvModule(width, out_channels, 3, stride=2, padding=1, norm=norm, conv=conv, act=act)
            )
        (init or init_xavier)(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`num_outs` levels [B, out_channels, H, W], finest first, from as many levels as `in_channels` has.

        Raises:
            ValueError: another number of levels.
        """
        if len(levels) != self.num_ins:
            raise ValueError(f"FPN was built for {self.num_ins} levels and was given {len(levels)}")
        laterals = [conv(levels[self.start_level + i]) for i, conv in enumerate(self.lateral_convs)]
        used = len(laterals)
        for i in range(used - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + self._upsample(laterals[i], laterals[i - 1])
        outs = [self.fpn_convs[i](lateral) for i, lateral in enumerate(laterals)]
        if self.extra_source is None:
            while len(outs) < self.num_outs:
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
            return tuple(outs)
        sources = {"on_input": levels[self.last_level], "on_lateral": laterals[-1], "on_output": outs[-1]}
        source = sources[self.extra_source]
        for i in range(used, self.num_outs):
            if i > used and self.relu_before_extra_convs:
                source = torch.relu(source)
            source = self.fpn_convs[i](source)
            outs.append(source)
        return tuple(outs)

    def _upsample(self, coarse: Tensor, fine: Tensor) -> Tensor:
        if self.upsample_scale is not None:
            return F.interpolate(coarse, scale_factor=self.upsample_scale, mode=self.upsample_mode)
        return F.interpolate(coarse, size=fine.shape[2:], mode=self.upsample_mode)
