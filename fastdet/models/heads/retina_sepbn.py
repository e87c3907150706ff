"""RetinaSepBNHead: towers whose convolutions the levels share and whose norms they do not.

Letters: A anchors a cell, C class channels.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.heads.tower import conv_tower
from fastdet.models.layers import ConvFactory, ConvModule, NormFactory, init_normal, prior_bias
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


@HEADS.register()
class RetinaSepBNHead(nn.Module):
    """RetinaHead with norms of each level's own. Keys: cls_convs.level.i, reg_convs.level.i, retina_cls, retina_reg.

    Source: Ghiasi et al., NAS-FPN, section 4.1.

    Args:
        num_classes: without background.
        in_channels: of every level.
        num_anchors: A.
        num_ins: levels.
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
        num_ins: int,
        *,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        background_class: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        self.cls_convs, self.reg_convs = (
            share_convolutions(
                [conv_tower(in_channels, feat_channels, stacked_convs, norm=norm, conv=conv) for _ in range(num_ins)]
            )
            for _ in range(2)
        )
        width = feat_channels if stacked_convs else in_channels
        self.retina_cls = nn.Conv2d(width, num_anchors * (num_classes + background_class), 3, padding=1)
        self.retina_reg = nn.Conv2d(width, num_anchors * 4, 3, padding=1)
        init_normal(self, std=0.01)
        nn.init.constant_(self.retina_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        cls_maps = [self.retina_cls(tower(x)) for tower, x in zip(self.cls_convs, levels, strict=True)]
        box_maps = [self.retina_reg(tower(x)) for tower, x in zip(self.reg_convs, levels, strict=True)]
        return DenseOutput.from_maps(cls_maps, box_maps, self.num_anchors)


def share_convolutions(towers: Sequence[nn.Sequential]) -> nn.ModuleList:
    """The towers, each with the first one's convolutions and its own norms."""
    for tower in towers[1:]:
        for layer, first in zip(tower, towers[0], strict=True):
            assert isinstance(layer, ConvModule)
            assert isinstance(first, ConvModule)
            layer.conv = first.conv
    return nn.ModuleList(towers)
