"""RPNHead: objectness and box deltas of every anchor.

Letters: A anchors a cell.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.layers import ConvModule, init_normal
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


@HEADS.register()
class RPNHead(nn.Module):
    """One convolution (or a few), then objectness and deltas. Keys: rpn_conv, rpn_cls, rpn_reg.

    Convolutions start from a normal distribution of 0.01.

    Source: Ren et al., Faster R-CNN, section 3.1.

    Args:
        in_channels: of every level.
        num_anchors: A.
        feat_channels: width of the convolution.
        num_convs: how many convolutions, each with a ReLU.
        background_class: two channels for a softmax, object and background, instead of one for a sigmoid.
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        *,
        feat_channels: int = 256,
        num_convs: int = 1,
        background_class: bool = False,
    ) -> None:
        super().__init__()
        if num_convs < 1:
            raise ValueError(f"num_convs must be at least 1, not {num_convs}")
        self.num_anchors = num_anchors
        self.rpn_conv: nn.Module
        if num_convs == 1:
            self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        else:
            widths = [in_channels] + [feat_channels] * (num_convs - 1)
            self.rpn_conv = nn.Sequential(*(ConvModule(width, feat_channels, 3, padding=1) for width in widths))
        self.rpn_cls = nn.Conv2d(feat_channels, num_anchors * (2 if background_class else 1), 1)
        self.rpn_reg = nn.Conv2d(feat_channels, num_anchors * 4, 1)
        init_normal(self, std=0.01)

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        features = [torch.relu(self.rpn_conv(x)) for x in levels]
        cls_maps, box_maps = [self.rpn_cls(x) for x in features], [self.rpn_reg(x) for x in features]
        return DenseOutput.from_maps(cls_maps, box_maps, self.num_anchors)
