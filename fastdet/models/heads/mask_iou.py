"""MaskIoUHead: how well a predicted mask covers its object.

Letters: R RoIs, C classes, S side of the pooled square.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers import init_kaiming
from fastdet.registry import HEADS


@HEADS.register()
class MaskIoUHead(nn.Module):
    """The IoU of a mask with its object's, as if it were of each class, from the RoI's features and the mask itself.

    Keys: convs, fcs, fc_mask_iou. The last convolution halves the square.

    Source: Huang et al., Mask Scoring R-CNN, section 3.2.

    Args:
        num_classes: C.
        in_channels: of the pooled features.
        roi_feat_size: S; the mask's side is twice that.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 256,
        *,
        roi_feat_size: int = 14,
        num_convs: int = 4,
        num_fcs: int = 2,
        conv_out_channels: int = 256,
        fc_out_channels: int = 1024,
    ) -> None:
        super().__init__()
        if num_convs < 1 or num_fcs < 1:
            raise ValueError(f"num_convs ({num_convs}) and num_fcs ({num_fcs}) must be at least 1")
        widths = [in_channels + 1] + [conv_out_channels] * num_convs
        strides = [1] * (num_convs - 1) + [2]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride, padding=1) for (a, b), stride in zip(pairwise(widths), strides, strict=True)
        )
        widths = [conv_out_channels * (roi_feat_size // 2) ** 2] + [fc_out_channels] * num_fcs
        self.fcs = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.fc_mask_iou = nn.Linear(fc_out_channels, num_classes)
        init_kaiming(self.convs)
        for linear in (*self.fcs, self.fc_mask_iou):
            nn.init.kaiming_uniform_(linear.weight, a=1, mode="fan_in", nonlinearity="leaky_relu")
            nn.init.zeros_(linear.bias)
        nn.init.normal_(self.fc_mask_iou.weight, std=0.01)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """IoUs [R, C] from features [R, in_channels, S, S] and mask logits [R, 2 * S, 2 * S]."""
        x = torch.cat((x, F.max_pool2d(mask.sigmoid()[:, None], 2)), dim=1)
        for conv in self.convs:
            x = conv(x).relu()
        x = x.flatten(1)
        for linear in self.fcs:
            x = linear(x).relu()
        return self.fc_mask_iou(x)
