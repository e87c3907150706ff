"""SSDHead: a prediction layer of each level's own.

Letters: A anchors a cell (of a level), C classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, Initialiser, NormFactory, init_xavier
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


@HEADS.register()
class SSDHead(nn.Module):
    """Class logits, the background last, and box deltas of every anchor. Keys: cls_convs.i.j, reg_convs.i.j.

    Convolutions start from Glorot's uniform distribution.

    Source: Liu et al., SSD, section 2.1; separable predictions: Sandler et al., MobileNetV2, section 6.2.

    Args:
        num_classes: C, without background.
        in_channels: of each level.
        num_anchors: A of each level.
        use_depthwise: a depthwise convolution with norm and activation, then a 1x1 convolution.
        norm, act, conv: factories of its layers.
        init: initialises the convolutions in another way.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        num_anchors: Sequence[int],
        *,
        use_depthwise: bool = False,
        norm: NormFactory | None = None,
        act: ActFactory | bool = False,
        conv: ConvFactory | None = None,
        init: Initialiser | None = None,
    ) -> None:
        super().__init__()
        self.num_anchors = tuple(num_anchors)

        def predictor(width: int, channels: int) -> nn.Sequential:
            if not use_depthwise:
                return nn.Sequential(nn.Conv2d(width, channels, 3, padding=1))
            spread = ConvModule(width, width, 3, padding=1, groups=width, norm=norm, act=act, conv=conv)
            return nn.Sequential(spread, nn.Conv2d(width, channels, 1))

        pairs = list(zip(in_channels, num_anchors, strict=True))
        self.cls_convs = nn.ModuleList(predictor(width, count * (num_classes + 1)) for width, count in pairs)
        self.reg_convs = nn.ModuleList(predictor(width, count * 4) for width, count in pairs)
        (init or init_xavier)(self)

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        cls_maps = [layer(x) for layer, x in zip(self.cls_convs, levels, strict=True)]
        box_maps = [layer(x) for layer, x in zip(self.reg_convs, levels, strict=True)]
        return DenseOutput.from_maps(cls_maps, box_maps, self.num_anchors)
