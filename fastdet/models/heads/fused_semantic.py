"""FusedSemanticHead: semantic segmentation from all pyramid levels, and a feature map for RoIs to look at.

Letters: B images, C classes, h and w cells of the fused level.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers import ConvFactory, ConvModule, NormFactory
from fastdet.registry import HEADS


@HEADS.register()
class FusedSemanticHead(nn.Module):
    """Every level brought to the size of one of them and added up, convolutions, then logits and an embedding.

    Source: Chen et al., Hybrid Task Cascade, section 3.3, figure 4.

    Args:
        num_ins: levels used.
        fusion_level: the one whose size the others get.
        num_classes: of the segmentation.
        conv, norm: factories of the convolutions' layers; without norm they have a bias.
    """

    def __init__(
        self,
        num_ins: int,
        fusion_level: int,
        *,
        num_convs: int = 4,
        in_channels: int = 256,
        conv_out_channels: int = 256,
        num_classes: int = 183,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        self.fusion_level = fusion_level
        self.lateral_convs = nn.ModuleList(
            ConvModule(in_channels, in_channels, 1, conv=conv, norm=norm) for _ in range(num_ins)
        )
        widths = [in_channels] + [conv_out_channels] * num_convs
        self.convs = nn.ModuleList(ConvModule(a, b, 3, padding=1, conv=conv, norm=norm) for a, b in pairwise(widths))
        self.conv_embedding = ConvModule(conv_out_channels, conv_out_channels, 1, conv=conv, norm=norm)
        self.conv_logits = nn.Conv2d(conv_out_channels, num_classes, 1)
        nn.init.kaiming_normal_(self.conv_logits.weight, mode="fan_out", nonlinearity="relu")
        assert self.conv_logits.bias is not None
        nn.init.zeros_(self.conv_logits.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [B, C, h, w] and embedding [B, conv_out_channels, h, w] from pyramid levels, finest first."""
        size = features[self.fusion_level].shape[2:]
        x = self.lateral_convs[self.fusion_level](features[self.fusion_level])
        for index, (conv, level) in enumerate(zip(self.lateral_convs, features, strict=False)):
            if index != self.fusion_level:
                x = x + conv(F.interpolate(level, size=size, mode="bilinear", align_corners=True))
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(x), self.conv_embedding(x)
