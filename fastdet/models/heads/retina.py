"""RetinaHead: two towers of convolutions, shared by the levels.

Letters: A anchors a cell, C class channels.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.heads.tower import conv_tower
from fastdet.models.layers import ConvFactory, NormFactory, init_normal, prior_bias
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


@HEADS.register()
class RetinaHead(nn.Module):
    """Class logits and box deltas of every anchor. Keys: cls_convs, reg_convs, retina_cls, retina_reg.

    Convolutions start from a normal distribution of 0.01, the class bias at a probability of 0.01.

    Source: Lin et al., Focal Loss for Dense Object Detection, section 4.

    Args:
        num_classes: without background.
        in_channels: of every level.
        num_anchors: A.
        stacked_convs: convolutions of each tower.
        feat_channels: their width.
        background_class: one more class channel, the last, for losses over a softmax.
        norm, conv: factories of the towers' layers.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_anchors: int,
        *,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        background_class: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        width = feat_channels if stacked_convs else in_channels
        self.cls_convs, self.reg_convs = (
            conv_tower(in_channels, feat_channels, stacked_convs, norm=norm, conv=conv) for _ in range(2)
        )
        self.retina_cls = nn.Conv2d(width, num_anchors * (num_classes + background_class), 3, padding=1)
        self.retina_reg = nn.Conv2d(width, num_anchors * 4, 3, padding=1)
        init_normal(self, std=0.01)
        nn.init.constant_(self.retina_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        cls_maps = [self.retina_cls(self.cls_convs(x)) for x in levels]
        box_maps = [self.retina_reg(self.reg_convs(x)) for x in levels]
        return DenseOutput.from_maps(cls_maps, box_maps, self.num_anchors)
