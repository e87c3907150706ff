"""ChannelMapper: every level gets the same number of channels.

Letters: B images, H and W cells.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, NormFactory, init_xavier
from fastdet.registry import NECKS


@NECKS.register()
class ChannelMapper(nn.Module):
    """A convolution for each level, and coarser levels from the last one.

    Convolutions start from Glorot's uniform distribution. Keys: convs.i.conv, extra_convs.i.conv.

    Args:
        in_channels: of each level that comes in.
        out_channels: of every level that goes out.
        kernel_size: of the levels' convolutions.
        bias: whether convolutions have one; None: if there is no norm.
        num_outs: how many levels go out; None: as many as come in.
        act: makes the activations; True for ReLU.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        kernel_size: int = 3,
        bias: bool | None = None,
        num_outs: int | None = None,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        act: ActFactory | bool = True,
    ) -> None:
        super().__init__()
        self.num_ins = len(in_channels)
        self.convs = nn.ModuleList(
            ConvModule(
                width,
                out_channels,
                kernel_size,
                padding=(kernel_size - 1) // 2,
                bias=bias,
                norm=norm,
                conv=conv,
                act=act,
            )
            for width in in_channels
        )
        extra = max((num_outs or self.num_ins) - self.num_ins, 0)
        self.extra_convs = nn.ModuleList(
            ConvModule(
                out_channels if i else in_channels[-1],
                out_channels,
                3,
                stride=2,
                padding=1,
                bias=bias,
                norm=norm,
                conv=conv,
                act=act,
            )
            for i in range(extra)
        )
        init_xavier(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels [B, out_channels, H, W], finest first.

        Raises:
            ValueError: another number of levels than `in_channels` has.
        """
        if len(levels) != self.num_ins:
            raise ValueError(f"ChannelMapper was built for {self.num_ins} levels and was given {len(levels)}")
        outs = [conv(x) for conv, x in zip(self.convs, levels, strict=True)]
        x = levels[-1]
        for conv in self.extra_convs:
            x = conv(x)
            outs.append(x)
        return tuple(outs)
