"""TowerHead: two towers of convolutions and one prediction a cell, as FCOS, ATSS and GFL have it.

Letters: A anchors a cell, C classes, D numbers that describe a box.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fastdet.models.layers import ConvFactory, ConvModule, NormFactory, init_normal, prior_bias
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


class Scale(nn.Module):
    """A trained factor. Key: `scale`."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """The values times the factor, float32."""
        return x.float() * self.scale


def conv_tower(
    in_channels: int,
    channels: int,
    count: int,
    *,
    norm: NormFactory | None = None,
    conv: ConvFactory | None = None,
    last_conv: ConvFactory | None = None,
    bias: bool | None = None,
) -> nn.Sequential:
    """So many convolutions of 3x3 cells in a row; `last_conv` makes the last one in another way."""
    widths = [in_channels] + [channels] * count
    kinds = [conv] * (count - 1) + [last_conv or conv] if count else []
    return nn.Sequential(
        *(
            ConvModule(width, channels, 3, padding=1, conv=kind, norm=norm, bias=bias)
            for width, kind in zip(widths, kinds, strict=False)
        )
    )


@HEADS.register()
class TowerHead(nn.Module):
    """Class logits, boxes and, if wanted, a quality at every prior; a factor for each level's boxes.

    Keys: cls_convs, reg_convs, scales, and with the prefix `_cls`, `_reg` and `_centerness`. Convolutions start from a
    normal distribution of 0.01, the class bias at a probability of 0.01.

    Source: Tian et al., FCOS, section 3; Zhang et al., ATSS; Li et al., Generalized Focal Loss.

    Args:
        num_classes: C.
        in_channels: of every level.
        num_levels: how many levels, each with its factor.
        prefix: of the prediction layers' names.
        num_anchors: A.
        box_channels: D.
        positive: how boxes are made positive: "exp", "relu", or None: they are not.
        quality_from: the tower that says the quality; None: there is none.
        stacked_convs: convolutions of each tower.
        feat_channels: their width.
        pred_kernel_size: of the prediction layers.
        conv_bias: whether the towers' convolutions have a bias; None: where they have no norm.
        norm, conv: factories of the towers' layers.
        last_conv: factory of each tower's last convolution; None: as the others.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_levels: int,
        *,
        prefix: str,
        num_anchors: int = 1,
        box_channels: int = 4,
        positive: Literal["exp", "relu"] | None = None,
        quality_from: Literal["cls", "reg"] | None = None,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        pred_kernel_size: int = 3,
        conv_bias: bool | None = None,
        norm: NormFactory | None = None,
        conv: ConvFactory | None = None,
        last_conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        self.prefix = prefix
        self.positive = positive
        self.quality_from = quality_from
        self.cls_convs, self.reg_convs = (
            conv_tower(
                in_channels, feat_channels, stacked_convs, norm=norm, conv=conv, last_conv=last_conv, bias=conv_bias
            )
            for _ in range(2)
        )
        width = feat_channels if stacked_convs else in_channels
        predictions = {"cls": num_classes, "reg": box_channels} | ({"centerness": 1} if quality_from else {})
        for name, channels in predictions.items():
            layer = nn.Conv2d(width, num_anchors * channels, pred_kernel_size, padding=pred_kernel_size // 2)
            self.add_module(f"{prefix}_{name}", layer)
        self.scales = nn.ModuleList(Scale() for _ in range(num_levels))
        init_normal(self, std=0.01)
        nn.init.constant_(self.get_submodule(f"{prefix}_cls").bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        cls_maps, box_maps, quality_maps = [], [], []
        for level, scale in zip(levels, self.scales, strict=True):
            towers = {"cls": self.cls_convs(level), "reg": self.reg_convs(level)}
            cls_maps.append(self._predict("cls", towers["cls"]))
            box_maps.append(self._make_positive(scale(self._predict("reg", towers["reg"]))))
            if self.quality_from is not None:
                quality_maps.append(self._predict("centerness", towers[self.quality_from]))
        return DenseOutput.from_maps(cls_maps, box_maps, self.num_anchors, quality_maps or None)

    def _predict(self, name: str, features: Tensor) -> Tensor:
        return self.get_submodule(f"{self.prefix}_{name}")(features)

    def _make_positive(self, boxes: Tensor) -> Tensor:
        if self.positive is None:
            return boxes
        return boxes.exp() if self.positive == "exp" else boxes.clamp(min=0)
