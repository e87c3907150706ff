"""Heads of guided anchoring: where anchors are, what shape they have, then what is in them.

Letters: B images, P cells of all levels (one anchor a cell), C class channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from fastdet.models.layers import (
    ConvFactory,
    ConvModule,
    DeformConv2d,
    NormFactory,
    init_normal,
    keep_init,
    prior_bias,
)
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


class GuidedOutput(NamedTuple):
    """What a guided head says at every cell."""

    guide: DenseOutput  # of the anchors: logits [B, P, 1] of the location, deltas [B, P, 2] of width and height
    boxes: DenseOutput  # of what is in them: class logits [B, P, C], deltas [B, P, 4]


class FeatureAdaption(nn.Module):
    """A deformable convolution whose offsets come from the anchors' shapes. Keys: conv_offset, conv_adaption.

    Source: Wang et al., Region Proposal by Guided Anchoring, section 3.4.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3, deform_groups: int = 4) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(2, deform_groups * 2 * kernel_size**2, 1, bias=False)
        self.conv_adaption = DeformConv2d(
            in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, deform_groups=deform_groups
        )
        nn.init.normal_(self.conv_offset.weight, std=0.1)
        nn.init.normal_(self.conv_adaption.weight, std=0.01)
        keep_init(self)

    def forward(self, x: Tensor, shape: Tensor) -> Tensor:
        """[B, in_channels, H, W] and shapes [B, 2, H, W], which get no gradient, -> [B, out_channels, H, W]."""
        return self.conv_adaption(x, self.conv_offset(shape.detach())).relu()


@HEADS.register()
class GARPNHead(nn.Module):
    """Region proposals from guided anchors.

    Keys: rpn_conv, conv_loc, conv_shape, feature_adaption, conv_cls, conv_reg. Convolutions start from a normal
    distribution of 0.01, the location's bias at a probability of 0.01.

    Source: Wang et al., Region Proposal by Guided Anchoring, section 3.

    Args:
        in_channels: of every level.
        feat_channels: width of the first convolution and of the adapted features.
        deform_groups: of the adaption.
        background_class: two channels for a softmax, object and background, instead of one for a sigmoid.
    """

    def __init__(
        self, in_channels: int, *, feat_channels: int = 256, deform_groups: int = 4, background_class: bool = False
    ) -> None:
        super().__init__()
        self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.conv_loc = nn.Conv2d(feat_channels, 1, 1)
        self.conv_shape = nn.Conv2d(feat_channels, 2, 1)
        self.feature_adaption = FeatureAdaption(feat_channels, feat_channels, deform_groups=deform_groups)
        self.conv_cls = nn.Conv2d(feat_channels, 2 if background_class else 1, 1)
        self.conv_reg = nn.Conv2d(feat_channels, 4, 1)
        init_normal(self, std=0.01)
        nn.init.constant_(self.conv_loc.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> GuidedOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        features = [self.rpn_conv(x).relu() for x in levels]
        shapes = [self.conv_shape(x) for x in features]
        adapted = [self.feature_adaption(x, shape) for x, shape in zip(features, shapes, strict=True)]
        return GuidedOutput(
            DenseOutput.from_maps([self.conv_loc(x) for x in features], shapes, 1),
            DenseOutput.from_maps([self.conv_cls(x) for x in adapted], [self.conv_reg(x) for x in adapted], 1),
        )


@HEADS.register()
class GARetinaHead(nn.Module):
    """RetinaNet's towers with guided anchors; location and class come from one tower, shape and box from the other.

    Keys: cls_convs, reg_convs, conv_loc, conv_shape, feature_adaption_cls, feature_adaption_reg, retina_cls,
    retina_reg. Initial values as GARPNHead's, the class bias at a probability of 0.01 too.

    Source: Wang et al., Region Proposal by Guided Anchoring, section 3; Lin et al., Focal Loss, section 4.

    Args:
        num_classes: without background.
        in_channels: of every level.
        stacked_convs: convolutions of each tower.
        feat_channels: their width.
        deform_groups: of the adaptions.
        background_class: one more class channel, the last, for losses over a softmax.
        norm, conv: factories of the towers' layers.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        deform_groups: int = 4,
        background_class: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [feat_channels] * stacked_convs
        self.cls_convs, self.reg_convs = (
            nn.Sequential(
                *(ConvModule(w, feat_channels, 3, padding=1, conv=conv, norm=norm) for w in widths[:stacked_convs])
            )
            for _ in range(2)
        )
        self.conv_loc = nn.Conv2d(feat_channels, 1, 1)
        self.conv_shape = nn.Conv2d(feat_channels, 2, 1)
        self.feature_adaption_cls, self.feature_adaption_reg = (
            FeatureAdaption(feat_channels, feat_channels, deform_groups=deform_groups) for _ in range(2)
        )
        self.retina_cls = nn.Conv2d(feat_channels, num_classes + background_class, 3, padding=1)
        self.retina_reg = nn.Conv2d(feat_channels, 4, 3, padding=1)
        init_normal(self, std=0.01)
        for layer in (self.conv_loc, self.retina_cls):
            nn.init.constant_(layer.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> GuidedOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        rows = [self._level(x) for x in levels]
        locations, shapes, cls_maps, box_maps = zip(*rows, strict=True)
        return GuidedOutput(DenseOutput.from_maps(locations, shapes, 1), DenseOutput.from_maps(cls_maps, box_maps, 1))

    def _level(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        cls, reg = self.cls_convs(x), self.reg_convs(x)
        shape = self.conv_shape(reg)
        scores = self.retina_cls(self.feature_adaption_cls(cls, shape))
        return self.conv_loc(cls), shape, scores, self.retina_reg(self.feature_adaption_reg(reg, shape))
