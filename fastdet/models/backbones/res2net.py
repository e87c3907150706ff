"""The bottleneck of Res2Net: its 3x3 convolution is a chain of small ones.

Letters: B images, C channels, H and W cells.
"""

import torch
from torch import Tensor, nn

from fastdet.models.backbones.blocks import BlockFactory, BlockLayers, ResidualBlock, make_plugins
from fastdet.registry import LAYERS


class ScaleBlock(ResidualBlock):
    """A bottleneck whose middle channels are split into `scales` parts; each part but the last is convolved.

    A part is convolved together with the result of the part before it. In the first block of a stage parts are
    convolved alone, and the last one is averaged to the stride.
    Keys: conv1, bn1, convs.i, bns.i, conv3, bn3, downsample.i.
    Source: Gao et al., Res2Net, section 3.1.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        scales: int,
        stride: int,
        dilation: int,
        layers: BlockLayers,
        shortcut: nn.Module | None,
    ) -> None:
        first, second = layers.strides(stride)
        conv, norm, spatial = layers.conv, layers.norm, layers.spatial or layers.conv
        wide = width * scales
        super().__init__(
            (
                (conv(in_channels, wide, 1, stride=first, bias=False), norm(wide)),
                (nn.Identity(), None),  # the chain stands here
                (conv(wide, out_channels, 1, bias=False), norm(out_channels)),
            ),
            norm.name,
            shortcut,
            make_plugins(layers.plugins, (wide, wide, out_channels)),
        )
        self.width = width
        self.is_first = shortcut is not None
        self.pool = nn.AvgPool2d(3, stride=second, padding=1) if self.is_first and second != 1 else nn.Identity()
        self.convs = nn.ModuleList(
            spatial(width, width, 3, stride=second, padding=dilation, dilation=dilation, bias=False)
            for _ in range(scales - 1)
        )
        self.bns = nn.ModuleList(norm(width) for _ in range(scales - 1))

    def _convolve(self, number: int, x: Tensor) -> Tensor:
        return self._chain(x) if number == 2 else super()._convolve(number, x)

    def _chain(self, x: Tensor) -> Tensor:
        """[B, scales * width, H, W] -> [B, scales * width, H', W']."""
        *parts, last = x.split(self.width, 1)
        done: list[Tensor] = []
        for part, conv, norm in zip(parts, self.convs, self.bns, strict=True):
            joined = part if self.is_first or not done else part + done[-1]
            done.append(torch.relu(norm(conv(joined))))
        return torch.cat((*done, self.pool(last)), 1)


@LAYERS.register("Res2NetBottleneck")
def res2net_bottleneck(scales: int = 4, base_width: int = 26) -> BlockFactory:
    """Bottlenecks of Res2Net.

    Args:
        scales: parts of the middle channels.
        base_width: channels of a part in the first stage.

    Raises:
        ValueError: fewer than two scales.
    """
    if scales < 2:
        raise ValueError(f"Res2Net needs two scales or more, not {scales}")

    def make(
        in_channels: int, channels: int, stride: int, dilation: int, layers: BlockLayers, shortcut: nn.Module | None
    ) -> ResidualBlock:
        width = channels * base_width // layers.base_channels
        return ScaleBlock(in_channels, width, channels * 4, scales, stride, dilation, layers, shortcut)

    return BlockFactory(make, 4)
