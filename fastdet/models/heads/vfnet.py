"""VFNetHead: a first box, then classes and a refined box from features read at a star of points on it.

Letters: B images, C classes, H and W cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.heads.tower import Scale, conv_tower
from fastdet.models.layers import (
    ConvFactory,
    ConvModule,
    DeformConv2d,
    NormFactory,
    init_normal,
    kernel_cells,
    prior_bias,
)
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput

_STAR = 3  # cells to a side of the deformable kernels: corners, middles of the sides and the centre of the box


@HEADS.register()
class VFNetHead(nn.Module):
    """Class logits, and two boxes as distances in pixels: a first one and its refinement by factors.

    Keys: cls_convs, reg_convs, scales, scales_refine, and vfnet_{reg_conv, reg, reg_refine_dconv, reg_refine,
    cls_dconv, cls}. Convolutions start from a normal distribution of 0.01 but the deformable ones, the class bias at a
    probability of 0.01.

    Source: Zhang et al., VarifocalNet, sections 3.3 to 3.5.

    Args:
        num_classes: C.
        in_channels: of every level.
        strides: pixels a cell of each level.
        units: pixels of each level that first distances are in.
        stacked_convs: convolutions of each tower.
        feat_channels: their width.
        gradient_mul: how much of the gradient flows from where the star reads into the first box.
        conv_bias: whether the towers' convolutions have a bias; None: where they have no norm.
        norm, conv: factories of the towers' layers.
        last_conv: factory of each tower's last convolution; None: as the others.
    """

    star: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        strides: Sequence[float],
        units: Sequence[float],
        *,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        gradient_mul: float = 0.1,
        conv_bias: bool | None = None,
        norm: NormFactory | None = None,
        conv: ConvFactory | None = None,
        last_conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        self.strides, self.units = tuple(strides), tuple(units)
        self.gradient_mul = gradient_mul
        self.cls_convs, self.reg_convs = (
            conv_tower(
                in_channels, feat_channels, stacked_convs, norm=norm, conv=conv, last_conv=last_conv, bias=conv_bias
            )
            for _ in range(2)
        )
        width = feat_channels
        self.vfnet_reg_conv = ConvModule(width, width, 3, padding=1, conv=conv, norm=norm, bias=conv_bias)
        self.vfnet_reg = nn.Conv2d(width, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        self.vfnet_reg_refine_dconv = DeformConv2d(width, width, _STAR, padding=1)
        self.vfnet_reg_refine = nn.Conv2d(width, 4, 3, padding=1)
        self.scales_refine = nn.ModuleList(Scale() for _ in strides)
        self.vfnet_cls_dconv = DeformConv2d(width, width, _STAR, padding=1)
        self.vfnet_cls = nn.Conv2d(width, num_classes, 3, padding=1)
        self.register_buffer("star", kernel_cells(_STAR), persistent=False)
        init_normal(self, std=0.01)
        nn.init.constant_(self.vfnet_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        factors = zip(levels, self.scales, self.scales_refine, self.strides, self.units, strict=True)
        cls_maps, first_maps, box_maps = zip(*(self._level(*level) for level in factors), strict=True)
        return DenseOutput.from_maps(cls_maps, box_maps, 1, first_maps=first_maps)

    def _level(
        self, x: Tensor, scale: nn.Module, scale_refine: nn.Module, stride: float, unit: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits, first and refined distances [B, C or 4, H, W]."""
        cls_features, features = self.cls_convs(x), self.reg_convs(x)
        first = scale(self.vfnet_reg(self.vfnet_reg_conv(features))).exp() * unit
        offset = self._offsets(first.detach().lerp(first, self.gradient_mul) / stride).to(features.dtype)
        factor = scale_refine(self.vfnet_reg_refine(self.vfnet_reg_refine_dconv(features, offset).relu())).exp()
        cls_map = self.vfnet_cls(self.vfnet_cls_dconv(cls_features, offset).relu())
        return cls_map, first, factor * first.detach()

    def _offsets(self, distances: Tensor) -> Tensor:
        """Offsets [B, 18, H, W] of the kernel's cells to the star, from distances in cells [B, 4, H, W]."""
        left, top, right, bottom = distances.unbind(1)
        none = torch.zeros_like(left)
        rows, columns = torch.stack((-top, none, bottom), 1), torch.stack((-left, none, right), 1)  # [B, 3, H, W]
        y, x = rows[:, :, None].expand(-1, -1, _STAR, -1, -1), columns[:, None].expand(-1, _STAR, -1, -1, -1)
        return torch.stack((y, x), dim=3).flatten(1, 3) - self.star
