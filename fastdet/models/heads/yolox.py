"""YOLOXHead: towers and predictions of each level's own.

Letters: C classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.layers import (
    ActFactory,
    ConvFactory,
    ConvModule,
    DepthwiseSeparableConv,
    NormFactory,
    init_torch,
    prior_bias,
)
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


@HEADS.register()
class YOLOXHead(nn.Module):
    """Class logits, boxes and objectness of every cell; classes in one tower, the rest in the other.

    Keys: multi_level_cls_convs and multi_level_reg_convs; multi_level_conv_cls, multi_level_conv_reg and
    multi_level_conv_obj.
    Convolutions start from torch's own uniform distribution, class and objectness biases at a probability of 0.01.

    Source: Ge et al., YOLOX, section 2.1, figure 2.

    Args:
        num_classes: C.
        in_channels: of every level.
        num_levels: how many levels.
        feat_channels: width of the towers.
        stacked_convs: convolutions of each tower.
        use_depthwise: they are depthwise separable.
        norm, act, conv: factories of the towers' layers.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_levels: int,
        *,
        feat_channels: int = 256,
        stacked_convs: int = 2,
        use_depthwise: bool = False,
        norm: NormFactory | None = None,
        act: ActFactory | bool = True,
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        make = DepthwiseSeparableConv if use_depthwise else ConvModule
        widths = [in_channels] + [feat_channels] * stacked_convs

        def towers() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(
                    *(make(width, feat_channels, 3, padding=1, norm=norm, act=act, conv=conv) for width in widths[:-1])
                )
                for _ in range(num_levels)
            )

        def predictions(channels: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(widths[-1], channels, 1) for _ in range(num_levels))

        self.multi_level_cls_convs, self.multi_level_reg_convs = towers(), towers()
        self.multi_level_conv_cls = predictions(num_classes)
        self.multi_level_conv_reg = predictions(4)
        self.multi_level_conv_obj = predictions(1)
        init_torch(self)
        for layer in (*self.multi_level_conv_cls, *self.multi_level_conv_obj):
            nn.init.constant_(layer.bias, prior_bias(0.01))

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        cls_features = [tower(x) for tower, x in zip(self.multi_level_cls_convs, levels, strict=True)]
        reg_features = [tower(x) for tower, x in zip(self.multi_level_reg_convs, levels, strict=True)]
        return DenseOutput.from_maps(
            [layer(x) for layer, x in zip(self.multi_level_conv_cls, cls_features, strict=True)],
            [layer(x) for layer, x in zip(self.multi_level_conv_reg, reg_features, strict=True)],
            1,
            [layer(x) for layer, x in zip(self.multi_level_conv_obj, reg_features, strict=True)],
        )
