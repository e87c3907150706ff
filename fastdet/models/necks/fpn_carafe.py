"""FPN_CARAFE: a feature pyramid whose top-down path upsamples with predicted kernels.

Letters: B images, H and W cells.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.layers import ActFactory, ConvModule, NormFactory, init_xavier
from fastdet.models.layers.carafe import CarafeUpsample
from fastdet.models.layers.conv_module import ORDER
from fastdet.registry import NECKS

FACTOR = 2  # between two levels


@NECKS.register("FPN_CARAFE")
class CarafeFPN(nn.Module):
    """Levels of equal width, each enriched by the coarser ones; extra levels take part in the top-down path.

    Convolutions start from Glorot's uniform distribution. Keys: lateral_convs.i.conv, fpn_convs.i.conv,
    upsample_modules.i.
    Source: Wang et al., CARAFE, section 4.1; Lin et al., Feature Pyramid Networks.

    Args:
        in_channels: of each level that comes in.
        out_channels: of every level that goes out.
        num_outs: how many levels go out.
        start_level, end_level: the first and last level that is used (end_level -1: the last one there is).
        norm: of all convolutions; without norm they have a bias.
        act: makes the activation of each convolution; True for a ReLU, False for none.
        order: "conv", "norm" and "act" as they follow each other.
        up_kernel, up_group, encoder_kernel, encoder_dilation, compressed_channels: as those of CarafeUpsample.

    Raises:
        ValueError: levels out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        *,
        start_level: int = 0,
        end_level: int = -1,
        norm: NormFactory | None = None,
        act: ActFactory | bool = False,
        order: Sequence[str] = ORDER,
        up_kernel: int = 5,
        up_group: int = 1,
        encoder_kernel: int = 3,
        encoder_dilation: int = 1,
        compressed_channels: int = 64,
    ) -> None:
        super().__init__()
        last = len(in_channels) - 1 if end_level == -1 else end_level
        used = last - start_level + 1
        if not 0 <= start_level <= last < len(in_channels) or num_outs < used:
            raise ValueError(
                f"FPN_CARAFE uses levels {start_level} to {last} of {len(in_channels)} and cannot give {num_outs}"
            )
        self.num_ins = len(in_channels)
        self.start_level, self.last_level = start_level, last
        self.lateral_convs = nn.ModuleList(
            ConvModule(in_channels[level], out_channels, 1, norm=norm, act=act, order=order)
            for level in range(start_level, last + 1)
        )
        for index in range(num_outs - used):
            width = out_channels if index else in_channels[last]
            self.lateral_convs.append(
                ConvModule(width, out_channels, 3, stride=2, padding=1, norm=norm, act=act, order=order)
            )
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, norm=norm, act=act, order=order)
            for _ in range(num_outs)
        )
        self.upsample_modules = nn.ModuleList(
            CarafeUpsample(
                out_channels,
                FACTOR,
                up_kernel=up_kernel,
                up_group=up_group,
                encoder_kernel=encoder_kernel,
                encoder_dilation=encoder_dilation,
                compressed_channels=compressed_channels,
            )
            for _ in range(num_outs - 1)
        )
        init_xavier(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`num_outs` levels [B, out_channels, H, W], finest first, from as many levels as `in_channels` has.

        Raises:
            ValueError: another number of levels.
        """
        if len(levels) != self.num_ins:
            raise ValueError(f"FPN_CARAFE was built for {self.num_ins} levels and was given {len(levels)}")
        used = self.last_level - self.start_level + 1
        maps: list[Tensor] = []
        for index, conv in enumerate(self.lateral_convs):
            # The first extra level reads the last level that comes in, further ones the extra level before.
            source = maps[-1] if index > used else levels[min(self.start_level + index, self.last_level)]
            maps.append(conv(source))
        for index in range(len(maps) - 1, 0, -1):
            height, width = maps[index - 1].shape[2:]
            finer = self.upsample_modules[index - 1](maps[index])
            maps[index - 1] = maps[index - 1] + finer[:, :, :height, :width]
        return tuple(conv(x) for conv, x in zip(self.fpn_convs, maps, strict=True))
