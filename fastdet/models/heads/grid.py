"""GridHead: heatmaps of the points of a grid over each box.

Letters: R RoIs, G points, S side of the pooled square, C channels of a point.
"""

import math

import torch
from torch import Tensor, nn

from fastdet.models.layers import ConvFactory, ConvModule, NormFactory, init_kaiming, prior_bias
from fastdet.models.layers.masked_norm import conv_valid
from fastdet.registry import HEADS


@HEADS.register()
class GridHead(nn.Module):
    """Convolutions, features of each point mixed with those of its neighbours in the grid, two upsamplings.

    Points go by columns: the first is the upper left one, the second the one below it.

    Source: Lu et al., Grid R-CNN, sections 3.2 and 3.3; Grid R-CNN Plus, section 2.

    Args:
        grid_points: G, a square number.
        num_convs: the first one halves the square.
        in_channels: of the pooled features.
        point_feat_channels: C.
        conv, norm: factories of the convolutions' layers; they have a bias.

    Raises:
        ValueError: grid points that make no square.
    """

    def __init__(
        self,
        *,
        grid_points: int = 9,
        num_convs: int = 8,
        in_channels: int = 256,
        conv_kernel_size: int = 3,
        point_feat_channels: int = 64,
        deconv_kernel_size: int = 4,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        side = math.isqrt(grid_points)
        if side < 2 or side * side != grid_points:
            raise ValueError(f"grid_points must be a square number from 4 upwards, not {grid_points}")
        self.grid_points = grid_points
        width = point_feat_channels * grid_points
        self.convs = nn.Sequential(
            *(
                ConvModule(
                    width if index else in_channels,
                    width,
                    conv_kernel_size,
                    stride=1 if index else 2,
                    padding=(conv_kernel_size - 1) // 2,
                    bias=True,
                    conv=conv,
                    norm=norm,
                )
                for index in range(num_convs)
            )
        )
        pad = (deconv_kernel_size - 2) // 2
        self.deconv1 = nn.ConvTranspose2d(width, width, deconv_kernel_size, 2, pad, groups=grid_points)
        self.norm1 = nn.GroupNorm(grid_points, width)
        self.deconv2 = nn.ConvTranspose2d(width, grid_points, deconv_kernel_size, 2, pad, groups=grid_points)
        self.neighbours = tuple(_neighbours(point, side) for point in range(grid_points))
        self.forder_trans, self.sorder_trans = (
            nn.ModuleList(
                nn.ModuleList(_transition(point_feat_channels) for _ in neighbours) for neighbours in self.neighbours
            )
            for _ in range(2)
        )
        init_kaiming(self)
        for layer, bias in ((self.deconv1, 0.0), (self.deconv2, prior_bias(0.01))):
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Heatmap logits with and without the neighbours' features, each [R, G, 2 * S, 2 * S].

        Prediction looks at the first alone, which is given twice then.

        Args:
            x: pooled features [R, in_channels, S, S].
            valid: which rows hold a RoI, bool [R]; None if all do. Only batch statistics ask for it.
        """
        for conv in self.convs:
            x = conv_valid(conv, x, valid)
        points = x.chunk(self.grid_points, dim=1)
        first = self._mixed(points, points, self.forder_trans)
        fused = self._heatmaps(torch.cat(self._mixed(points, first, self.sorder_trans), dim=1))
        return fused, self._heatmaps(x) if self.training else fused

    def _mixed(
        self, points: tuple[Tensor, ...], others: tuple[Tensor, ...], transitions: nn.ModuleList
    ) -> tuple[Tensor, ...]:
        """Each point's features with what the others' neighbours of it say."""
        mixed = []
        for point, neighbours, layers in zip(points, self.neighbours, transitions, strict=True):
            assert isinstance(layers, nn.ModuleList)
            for index, layer in zip(neighbours, layers, strict=True):
                point = point + layer(others[index])
            mixed.append(point)
        return tuple(mixed)

    def _heatmaps(self, x: Tensor) -> Tensor:
        return self.deconv2(self.norm1(self.deconv1(x)).relu())


def _neighbours(point: int, side: int) -> tuple[int, ...]:
    """Points to the left, above, below and to the right, as far as the grid has them."""
    column, row = divmod(point, side)
    around = ((column - 1, row), (column, row - 1), (column, row + 1), (column + 1, row))
    return tuple(c * side + r for c, r in around if 0 <= c < side and 0 <= r < side)


def _transition(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 5, padding=2, groups=channels), nn.Conv2d(channels, channels, 1))
