"""FoveaHead: two towers; classes may look where the box is.

Letters: C classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.heads.tower import conv_tower
from fastdet.models.layers import ConvFactory, ConvModule, DeformConv2d, NormFactory, init_normal, prior_bias
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


class FeatureAlign(nn.Module):
    """A deformable convolution whose offsets follow from the distances of a box. Keys: conv_offset, conv_adaption.

    Source: Kong et al., FoveaBox, section 3.6.
    """

    def __init__(self, in_channels: int, out_channels: int, deform_groups: int) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(4, deform_groups * 18, 1, bias=False)
        self.conv_adaption = DeformConv2d(in_channels, out_channels, 3, padding=1, deform_groups=deform_groups)

    def init(self) -> None:
        """Normal distributions, wider for the offsets."""
        nn.init.normal_(self.conv_offset.weight, std=0.1)
        nn.init.normal_(self.conv_adaption.weight, std=0.01)

    def forward(self, x: Tensor, shape: Tensor) -> Tensor:
        """Features [B, in_channels, H, W] and distances [B, 4, H, W] -> [B, out_channels, H, W]."""
        return self.conv_adaption(x, self.conv_offset(shape)).relu()


@HEADS.register()
class FoveaHead(nn.Module):
    """Class logits and logarithms of distances at every cell. Keys: cls_convs, reg_convs, conv_cls, conv_reg.

    With aligned features, the class tower is wider and shorter, and there is feature_adaption. Convolutions start from
    a normal distribution of 0.01, the class bias at a probability of 0.01.

    Source: Kong et al., FoveaBox, sections 3.2 and 3.6.

    Args:
        num_classes: C.
        in_channels: of every level; with aligned features `feat_channels`.
        stacked_convs: convolutions of a tower.
        feat_channels: their width.
        with_deform: classes look where the box is.
        deform_groups: of this.
        conv_bias: whether the towers' convolutions have a bias; None: where they have no norm.
        norm, conv: factories of the towers' layers.
        last_conv: factory of each tower's last convolution; None: as the others.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        with_deform: bool = False,
        deform_groups: int = 4,
        conv_bias: bool | None = None,
        norm: NormFactory | None = None,
        conv: ConvFactory | None = None,
        last_conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()

        def tower() -> nn.Sequential:
            return conv_tower(
                in_channels, feat_channels, stacked_convs, norm=norm, conv=conv, last_conv=last_conv, bias=conv_bias
            )

        self.reg_convs = tower()
        self.conv_reg = nn.Conv2d(feat_channels, 4, 3, padding=1)
        wide = feat_channels * 4 if with_deform else feat_channels
        if with_deform:
            self.cls_convs = nn.Sequential(
                ConvModule(feat_channels, wide, 3, padding=1, conv=conv, norm=norm),
                ConvModule(wide, wide, 1, conv=conv, norm=norm),
            )
        else:
            self.cls_convs = tower()
        self.conv_cls = nn.Conv2d(wide, num_classes, 3, padding=1)
        init_normal(self, std=0.01)
        nn.init.constant_(self.conv_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]
        self.feature_adaption = FeatureAlign(in_channels, feat_channels, deform_groups) if with_deform else None
        if self.feature_adaption is not None:
            self.feature_adaption.init()

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        box_maps = [self.conv_reg(self.reg_convs(x)) for x in levels]
        features = levels
        if self.feature_adaption is not None:
            features = [self.feature_adaption(x, box.exp()) for x, box in zip(levels, box_maps, strict=True)]
        return DenseOutput.from_maps([self.conv_cls(self.cls_convs(x)) for x in features], box_maps, 1)
