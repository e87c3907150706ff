"""RepPointsHead: every cell says a few points of its object, refines them, and reads features there.

Letters: B images, C classes, N points of an object, K = sqrt(N), H and W cells.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fastdet.models.heads.tower import conv_tower
from fastdet.models.layers import ConvFactory, DeformConv2d, NormFactory, init_normal, kernel_cells, prior_bias
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


@HEADS.register()
class RepPointsHead(nn.Module):
    """Class logits, and two boxes around points as distances in strides: a first guess and the refined one.

    The first points move the kernel's cells of two deformable convolutions, one for the classes and one for the
    refinement. Keys: cls_convs, reg_convs, reppoints_cls_{conv, out}, reppoints_pts_{init, refine}_{conv, out}, and
    moment_transfer for the transform by moments. Convolutions start from a normal distribution of 0.01 but the
    deformable ones, the class bias at a probability of 0.01.

    Source: Yang et al., RepPoints, sections 3 and 4.

    Args:
        num_classes: C.
        in_channels: of every level.
        num_points: N, the square of an odd number.
        stacked_convs: convolutions of each tower.
        feat_channels: their width.
        point_feat_channels: width of the convolutions that follow.
        gradient_mul: how much of the gradient flows from where points are read into where they are.
        point_base_scale: side of the first square in strides, for points that do not start at the centre.
        use_grid_points: the points are a grid in a box, which four numbers describe.
        center_init: points start at the cell's centre; else on a grid in the first square.
        transform_method: the box is that of the outermost points, of the outermost of the first four, or reaches to
            both sides of the mean by a trained multiple of the standard deviation.
        moment_mul: how much of the gradient the multiple gets.
        norm, conv: factories of the towers' layers.

    Raises:
        ValueError: num_points is no square of an odd number.
    """

    base: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        num_points: int = 9,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        point_feat_channels: int = 256,
        gradient_mul: float = 0.1,
        point_base_scale: float = 4,
        use_grid_points: bool = False,
        center_init: bool = True,
        transform_method: Literal["minmax", "partial_minmax", "moment"] = "moment",
        moment_mul: float = 0.01,
        norm: NormFactory | None = None,
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        side = math.isqrt(num_points)
        if side * side != num_points or side % 2 == 0:
            raise ValueError(f"num_points must be the square of an odd number, not {num_points}")
        self.gradient_mul = gradient_mul
        self.half_square = point_base_scale / 2
        self.use_grid_points = use_grid_points
        self.center_init = center_init
        self.transform_method = transform_method
        self.moment_mul = moment_mul
        self.cls_convs, self.reg_convs = (
            conv_tower(in_channels, feat_channels, stacked_convs, norm=norm, conv=conv) for _ in range(2)
        )
        width, wide = feat_channels if stacked_convs else in_channels, point_feat_channels
        numbers = 4 if use_grid_points else 2 * num_points
        self.reppoints_cls_conv = DeformConv2d(width, wide, side, padding=side // 2)
        self.reppoints_cls_out = nn.Conv2d(wide, num_classes, 1)
        self.reppoints_pts_init_conv = nn.Conv2d(width, wide, 3, padding=1)
        self.reppoints_pts_init_out = nn.Conv2d(wide, numbers, 1)
        self.reppoints_pts_refine_conv = DeformConv2d(width, wide, side, padding=side // 2)
        self.reppoints_pts_refine_out = nn.Conv2d(wide, numbers, 1)
        self.moment_transfer = nn.Parameter(torch.zeros(2)) if transform_method == "moment" else None
        self.register_buffer("base", kernel_cells(side), persistent=False)
        init_normal(self, std=0.01)
        nn.init.constant_(self.reppoints_cls_out.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]; boxes lie around the cells' centres."""
        cls_maps, first_maps, box_maps = zip(*(self._level(x) for x in levels), strict=True)
        return DenseOutput.from_maps(cls_maps, box_maps, 1, first_maps=first_maps)

    def _level(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits, distances of the first box and of the refined one: [B, C or 4, H, W]."""
        cls_features, features = self.cls_convs(x), self.reg_convs(x)
        said = self.reppoints_pts_init_out(self.reppoints_pts_init_conv(features).relu()).float()
        if self.use_grid_points:
            square = said.new_tensor([-1.0, -1.0, 1.0, 1.0]).view(1, 4, 1, 1) * self.half_square
            first, box = self._grid(said, square)
        else:
            first, box = said + (0 if self.center_init else self.base / self.base.max() * self.half_square), said
        moved = first.detach().lerp(first, self.gradient_mul) - self.base
        moved = moved.to(features.dtype)
        cls_map = self.reppoints_cls_out(self.reppoints_cls_conv(cls_features, moved).relu())
        change = self.reppoints_pts_refine_out(self.reppoints_pts_refine_conv(features, moved).relu()).float()
        refined = self._grid(change, box.detach())[0] if self.use_grid_points else first.detach() + change
        return cls_map, self._distances(first), self._distances(refined)

    def _grid(self, change: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Points [B, 2N, H, W] on a grid in boxes [B, 4, H, W] after their change of centre and size; these boxes."""
        size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
        grown = size * change[:, 2:].exp()
        low = (boxes[:, :2] + boxes[:, 2:]) / 2 + size * change[:, :2] - grown / 2
        share = torch.linspace(0, 1, math.isqrt(self.base.shape[1] // 2), device=change.device)
        x, y = (low[:, i, None] + grown[:, i, None] * share[:, None, None] for i in (0, 1))  # [B, K, H, W]
        x, y = x[:, None, :].expand(-1, y.shape[1], -1, -1, -1), y[:, :, None].expand(-1, -1, x.shape[1], -1, -1)
        points = torch.stack((y, x), dim=3)  # [B, K, K, 2, H, W]
        return points.reshape(len(change), -1, *change.shape[2:]), torch.cat((low, low + grown), dim=1)

    def _distances(self, points: Tensor) -> Tensor:
        """Distances left, top, right and bottom [B, 4, H, W] of the boxes around points [B, 2N, H, W]."""
        yx = points.unflatten(1, (-1, 2))
        if self.moment_transfer is None:
            yx = yx if self.transform_method == "minmax" else yx[:, :4]
            low, high = yx.amin(1).flip(1), yx.amax(1).flip(1)
        else:
            transfer = self.moment_transfer
            factor = transfer.detach().lerp(transfer, self.moment_mul).exp().view(2, 1, 1)
            center, half = yx.mean(1).flip(1), yx.std(1).flip(1) * factor
            low, high = center - half, center + half
        return torch.cat((-low, high), dim=1)
