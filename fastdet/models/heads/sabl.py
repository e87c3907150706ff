"""Heads of side-aware boundary localization: RoIs by features along each axis, and RetinaNet's towers.

Letters: R RoIs, C channels, S side of the pooled square, T cells of a row of features after upsampling.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.coders.bucketing import bucket_confidence
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.tower import conv_tower
from fastdet.models.layers import ConvFactory, ConvModule, NormFactory, init_normal, prior_bias
from fastdet.models.layers.masked_norm import conv_valid
from fastdet.registry import HEADS
from fastdet.structures import DenseOutput


@HEADS.register()
class SABLHead(nn.Module):
    """Class scores from linear layers; for each side of the box, buckets and offsets from features along its axis.

    An attention over the rows makes one row of the square, which tells about left and right; another one over the
    columns tells about top and bottom. Each half of a row, upsampled, has one bucket a cell.

    Source: Wang et al., Side-Aware Boundary Localization, section 3.1.

    Args:
        num_classes: without the background.
        roi_feat_size: S.
        reg_feat_up_ratio: T / S, at least 2; T is the number of buckets.
        reg_pre_kernel, reg_pre_num: convolutions of the square.
        reg_post_kernel, reg_post_num: convolutions of the rows.
        num_cls_fcs, cls_out_channels: linear layers before the class.
        num_reg_fcs, reg_cls_out_channels, reg_offset_out_channels: linear layers before buckets and offsets; without
            any their widths must be reg_in_channels.
        norm: factory of the convolutions' norms; without it they have a bias.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        cls_in_channels: int = 256,
        reg_in_channels: int = 256,
        roi_feat_size: int = 7,
        reg_feat_up_ratio: int = 2,
        reg_pre_kernel: int = 3,
        reg_post_kernel: int = 3,
        reg_pre_num: int = 2,
        reg_post_num: int = 1,
        cls_out_channels: int = 1024,
        reg_offset_out_channels: int = 256,
        reg_cls_out_channels: int = 256,
        num_cls_fcs: int = 1,
        num_reg_fcs: int = 0,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        if reg_feat_up_ratio < 2:
            raise ValueError(f"reg_feat_up_ratio must be at least 2, not {reg_feat_up_ratio}")
        width = reg_in_channels
        self.cls_fcs = _linears(cls_in_channels * roi_feat_size**2, cls_out_channels, num_cls_fcs)
        self.upsample_x, self.upsample_y = (
            nn.ConvTranspose1d(width, width, reg_feat_up_ratio, stride=reg_feat_up_ratio) for _ in range(2)
        )
        self.reg_pre_convs = nn.ModuleList(
            ConvModule(width, width, reg_pre_kernel, padding=reg_pre_kernel // 2, norm=norm) for _ in range(reg_pre_num)
        )
        along, pad = reg_post_kernel, reg_post_kernel // 2
        self.reg_post_conv_xs, self.reg_post_conv_ys = (
            nn.ModuleList(
                ConvModule(width, width, kernel, padding=padding, norm=norm)  # type: ignore[arg-type]
                for _ in range(reg_post_num)
            )
            for kernel, padding in (((1, along), (0, pad)), ((along, 1), (pad, 0)))
        )
        self.reg_conv_att_x, self.reg_conv_att_y = (nn.Conv2d(width, 1, 1) for _ in range(2))
        self.fc_cls = nn.Linear(cls_out_channels, num_classes + 1)
        self.reg_cls_fcs = _linears(width, reg_cls_out_channels, num_reg_fcs)
        self.reg_offset_fcs = _linears(width, reg_offset_out_channels, num_reg_fcs)
        self.fc_reg_cls = nn.Linear(reg_cls_out_channels, 1)
        self.fc_reg_offset = nn.Linear(reg_offset_out_channels, 1)
        self.init_weights()

    def init_weights(self) -> None:
        """Normal distributions of 0.01, and 0.001 for the offsets, for the last layers and the attentions; Kaiming's
        normal one for the upsampling, Xavier's uniform one for other linear layers; no bias."""
        stds = {"reg_conv_att_x": 0.01, "reg_conv_att_y": 0.01, "fc_reg_cls": 0.01, "fc_cls": 0.01}
        stds["fc_reg_offset"] = 0.001
        for name, layer in self.named_modules():
            if isinstance(layer, nn.ConvTranspose1d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif name in stds:
                nn.init.normal_(layer.weight, std=stds[name])
            elif isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
            else:
                continue
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> BBoxOutput:
        """Scores, and buckets and offsets as BucketingBBoxCoder reads them.

        Args:
            x: pooled features [R, C, S, S].
            valid: which rows hold a RoI, bool [R]; None if all do. Only batch statistics ask for it.
        """
        rows = self._rows(x, valid)  # along x, along y: each [R, C, T]
        buckets, offsets = [], []
        for row in rows:
            cells = row.transpose(1, 2)  # [R, T, C]
            buckets.append(_halves(self.fc_reg_cls(_through(self.reg_cls_fcs, cells))[..., 0]))
            offsets.append(_halves(self.fc_reg_offset(_through(self.reg_offset_fcs, cells))[..., 0]))
        return BBoxOutput(self.fc_cls(_through(self.cls_fcs, x.flatten(1))), torch.cat((*buckets, *offsets), dim=-1))

    def _rows(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        for conv in self.reg_pre_convs:
            x = conv_valid(conv, x, valid)
        share_x, share_y = self.reg_conv_att_x(x).sigmoid(), self.reg_conv_att_y(x).sigmoid()
        along_x = (x * (share_x / share_x.sum(dim=2, keepdim=True))).sum(dim=2, keepdim=True)  # [R, C, 1, S]
        along_y = (x * (share_y / share_y.sum(dim=3, keepdim=True))).sum(dim=3, keepdim=True)  # [R, C, S, 1]
        for conv_x, conv_y in zip(self.reg_post_conv_xs, self.reg_post_conv_ys, strict=True):
            along_x, along_y = conv_valid(conv_x, along_x, valid), conv_valid(conv_y, along_y, valid)
        return self.upsample_x(along_x[:, :, 0]).relu(), self.upsample_y(along_y[..., 0]).relu()


@HEADS.register()
class SABLRetinaHead(nn.Module):
    """RetinaNet's towers, which say class, buckets and offsets of one square a cell.

    Keys: cls_convs, reg_convs, retina_cls, retina_bbox_cls, retina_bbox_reg. Convolutions start from a normal
    distribution of 0.01, the class bias at a probability of 0.01. In prediction the output has a quality: how sure the
    buckets are.

    Source: Wang et al., Side-Aware Boundary Localization, section 3.5.

    Args:
        num_classes: without background.
        in_channels: of every level.
        num_side: buckets of a side.
        stacked_convs: convolutions of each tower.
        feat_channels: their width.
        background_class: one more class channel, the last, for losses over a softmax.
        norm, conv: factories of the towers' layers.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_side: int,
        *,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        background_class: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        self.num_side = num_side
        width = feat_channels if stacked_convs else in_channels
        self.cls_convs, self.reg_convs = (
            conv_tower(in_channels, feat_channels, stacked_convs, norm=norm, conv=conv) for _ in range(2)
        )
        self.retina_cls = nn.Conv2d(width, num_classes + background_class, 3, padding=1)
        self.retina_bbox_reg = nn.Conv2d(width, num_side * 4, 3, padding=1)
        self.retina_bbox_cls = nn.Conv2d(width, num_side * 4, 3, padding=1)
        init_normal(self, std=0.01)
        nn.init.constant_(self.retina_cls.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> DenseOutput:
        """Predictions for levels [B, in_channels, H, W]."""
        cls_maps = [self.retina_cls(self.cls_convs(x)) for x in levels]
        towers = [self.reg_convs(x) for x in levels]
        box_maps = [torch.cat((self.retina_bbox_cls(x), self.retina_bbox_reg(x)), dim=1) for x in towers]
        output = DenseOutput.from_maps(cls_maps, box_maps, 1)
        if self.training:
            return output
        buckets = output.box_deltas[..., : 4 * self.num_side].unflatten(-1, (4, self.num_side))
        return output._replace(quality=bucket_confidence(buckets).logit())


def _linears(width: int, channels: int, number: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(channels if index else width, channels) for index in range(number))


def _through(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x).relu()
    return x


def _halves(row: Tensor) -> Tensor:
    """A row [R, T] as its first half, then its second half from the outside: [R, 2 * ceil(T / 2)]."""
    length = row.shape[1]
    return torch.cat((row[:, : (length + 1) // 2], row[:, length // 2 :].flip(1)), dim=1)
