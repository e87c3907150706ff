"""YOLOV3Head: a convolution and a prediction layer of each level's own.

Letters: A anchors a cell, C classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, NormFactory, init_normal, prior_bias
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput
from fastdet.structures.dense import flatten_maps

_EXPECTED = 8  # objects on a picture of 608 pixels: what the first objectness says of each level


@HEADS.register()
class YOLOV3Head(nn.Module):
    """Class logits, boxes and objectness of every anchor from one layer. Keys: convs_bridge, convs_pred.

    Boxes are (x, y, w, h): logits of the place in the cell, logarithms of the size over the anchor's. Convolutions
    start from a normal distribution of 0.01, the class bias at a probability of 0.01.

    Source: Redmon and Farhadi, YOLOv3, sections 2.1 to 2.3.

    Args:
        num_classes: C.
        in_channels, out_channels: of each level's convolution.
        strides: pixels a cell of each level.
        num_anchors: A.
        norm, act, conv: factories of the convolutions' layers.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        strides: Sequence[float],
        *,
        num_anchors: int = 3,
        norm: NormFactory | None = None,
        act: ActFactory | bool = True,
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        self.convs_bridge = nn.ModuleList(
            ConvModule(narrow, wide, 3, padding=1, norm=norm, act=act, conv=conv)
            for narrow, wide in zip(in_channels, out_channels, strict=True)
        )
        self.convs_pred = nn.ModuleList(nn.Conv2d(wide, num_anchors * (5 + num_classes), 1) for wide in out_channels)
        init_normal(self, std=0.01)
        for layer, stride in zip(self.convs_pred, strides, strict=True):
            bias = layer.get_parameter("bias").detach().view(num_anchors, -1)
            bias[:, 4] = prior_bias(_EXPECTED / (608 / stride) ** 2)
            bias[:, 5:] = prior_bias(0.01)

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        layers = zip(levels, self.convs_bridge, self.convs_pred, strict=True)
        maps = [predict(bridge(x)) for x, bridge, predict in layers]
        rows = flatten_maps(maps, [self.num_anchors] * len(maps))  # [B, P, 5 + C]
        sizes = tuple((m.shape[2], m.shape[3]) for m in maps)
        return DenseOutput(rows[..., 5:], rows[..., :4], sizes, rows[..., 4], (self.num_anchors,) * len(maps))
