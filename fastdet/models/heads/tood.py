"""TOODHead: both tasks read the same layers, each with its own share of them, and what they say is aligned.

Letters: B images, C classes, S layers, F their width, H and W cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.heads.tower import Scale
from fastdet.models.layers import ActFactory, ConvFactory, ConvModule, NormFactory, init_normal, prior_bias
from fastdet.models.layers.deform_conv import modulated_deformable_conv
from fastdet.ops import deform_conv2d
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput

_LARGEST_LOG = -1e-30  # of a probability: larger ones are 1 in float32, and their logits infinite
_HALF = -0.6931471805599453  # logarithm of one half


class TaskDecomposition(nn.Module):
    """Weighs the layers by what they hold, and merges them. Keys: layer_attention, reduction_conv.

    Source: Feng et al., TOOD, section 3.1, equations 2 and 3.
    """

    def __init__(
        self, channels: int, layers: int, *, norm: NormFactory | None = None, conv: ConvFactory | None = None
    ) -> None:
        super().__init__()
        width, narrow = channels * layers, channels // 8
        self.layer_attention = nn.Sequential(
            nn.Conv2d(width, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, layers, 1), nn.Sigmoid()
        )
        self.reduction_conv = ConvModule(width, channels, 1, norm=norm, conv=conv)

    def forward(self, features: Tensor, mean: Tensor) -> Tensor:
        """Layers [B, S * F, H, W] and their mean over cells [B, S * F, 1, 1] -> [B, F, H, W]."""
        share = self.layer_attention(mean)  # [B, S, 1, 1]
        weighed = features.unflatten(1, (share.shape[1], -1)) * share[:, :, None]
        return self.reduction_conv(weighed.flatten(1, 2))


@HEADS.register()
class TOODHead(nn.Module):
    """Class logits, and boxes in pixels: each side is taken over from a cell near by that says it better.

    The logits are those of the geometric mean of two probabilities. Keys: inter_convs, cls_decomp, reg_decomp,
    tood_cls, tood_reg, cls_prob_module, reg_offset_module, scales. Convolutions start from normal distributions of 0.01
    (0.001 for what is weighed or shifted), biases of classes at a probability of 0.01.

    Source: Feng et al., TOOD, section 3.1.

    Args:
        num_classes: C.
        in_channels: of every level.
        strides: pixels a cell of each level.
        stacked_convs: S.
        feat_channels: F.
        num_dcn: how many of the layers, from the first on, are deformable.
        coder: decodes the numbers of a box at square anchors; None: they are logarithms of distances from the cell.
        cells: side of these anchors in strides.
        norm, act, conv: factories of the layers.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        strides: Sequence[float],
        *,
        stacked_convs: int = 6,
        feat_channels: int = 256,
        num_dcn: int = 0,
        coder: DeltaXYWHBBoxCoder | None = None,
        cells: float = 8,
        norm: NormFactory | None = None,
        act: ActFactory | bool = True,
        conv: ConvFactory | None = None,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.coder = coder
        self.cells = cells
        widths = [in_channels] + [feat_channels] * stacked_convs
        deformable = modulated_deformable_conv(deform_groups=4)
        kinds = [deformable] * num_dcn + [conv] * (stacked_convs - num_dcn)
        self.inter_convs = nn.ModuleList(
            ConvModule(width, feat_channels, 3, padding=1, conv=kind, norm=norm, act=act)
            for width, kind in zip(widths[:-1], kinds, strict=True)
        )
        self.cls_decomp, self.reg_decomp = (
            TaskDecomposition(feat_channels, stacked_convs, norm=norm, conv=conv) for _ in range(2)
        )
        self.tood_cls = nn.Conv2d(feat_channels, num_classes, 3, padding=1)
        self.tood_reg = nn.Conv2d(feat_channels, 4, 3, padding=1)
        self.cls_prob_module, self.reg_offset_module = (
            nn.Sequential(
                nn.Conv2d(feat_channels * stacked_convs, feat_channels // 4, 1),
                nn.ReLU(),
                nn.Conv2d(feat_channels // 4, channels, 3, padding=1),
            )
            for channels in (1, 8)
        )
        self.scales = nn.ModuleList(Scale() for _ in strides)
        init_normal(self, std=0.01)
        for module in (self.reg_offset_module, self.cls_decomp.layer_attention, self.reg_decomp.layer_attention):
            init_normal(module, std=0.001)
        for layer in (self.tood_cls, self.cls_prob_module[-1]):
            nn.init.constant_(layer.get_parameter("bias"), prior_bias(0.01))

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        triples = zip(levels, self.scales, self.strides, strict=True)
        cls_maps, box_maps = zip(*(self._level(*triple) for triple in triples), strict=True)
        return DenseOutput.from_maps(cls_maps, box_maps, 1)

    def _level(self, x: Tensor, scale: nn.Module, stride: float) -> tuple[Tensor, Tensor]:
        """Class logits [B, C, H, W] and boxes in pixels [B, 4, H, W]."""
        layers = []
        for layer in self.inter_convs:
            x = layer(x)
            layers.append(x)
        features = torch.cat(layers, dim=1)
        mean = features.mean((2, 3), keepdim=True)
        cls_map = self.tood_cls(self.cls_decomp(features, mean))
        logits = mean_logit(cls_map.float(), self.cls_prob_module(features).float())
        said = self.tood_reg(self.reg_decomp(features, mean))
        boxes = self._boxes(said, scale)
        offset = self.reg_offset_module(features).float()
        with torch.autocast(boxes.device.type, enabled=False):  # coordinates keep their digits
            moved = deform_conv2d(boxes, offset, boxes.new_ones(4, 1, 1, 1))
        # sides from different cells may have changed places
        turned = (moved[:, :2] > moved[:, 2:]).any(1, keepdim=True)
        return logits, torch.where(turned, boxes, moved) * stride

    def _boxes(self, said: Tensor, scale: nn.Module) -> Tensor:
        """The boxes [B, 4, H, W] in cells of the level that the numbers [B, 4, H, W] describe."""
        height, width = said.shape[2:]
        y, x = (torch.arange(n, dtype=torch.float32, device=said.device) for n in (height, width))
        center = torch.stack((x.expand(height, width), y[:, None].expand(height, width)))  # [2, H, W]
        if self.coder is None:
            distances = scale(said.exp())
            return torch.cat((center - distances[:, :2], center + distances[:, 2:]), dim=1)
        anchors = torch.cat((center - self.cells / 2, center + self.cells / 2)).flatten(1).T  # [H * W, 4]
        boxes = self.coder.decode(anchors, scale(said).flatten(2).transpose(1, 2))
        return boxes.transpose(1, 2).unflatten(2, (height, width))


def mean_logit(first: Tensor, second: Tensor) -> Tensor:
    """The logit of the geometric mean of the sigmoids of two logits; they broadcast."""
    log = nn.functional.logsigmoid(first) + nn.functional.logsigmoid(second)
    log = (log / 2).clamp(max=_LARGEST_LOG)
    # log(1 - p), from whichever form keeps its digits
    near_one = (-log.clamp(min=_HALF).expm1()).log()
    near_zero = (-log.clamp(max=_HALF).exp()).log1p()
    return log - torch.where(log > _HALF, near_one, near_zero)
