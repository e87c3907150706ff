"""Side-aware heads: keys, the order of buckets, and what tells about which side."""

import torch
from torch import nn

from fastdet.models.heads.sabl import SABLHead, SABLRetinaHead


def make_head():
    torch.manual_seed(0)
    return SABLHead(2, cls_in_channels=4, reg_in_channels=4, roi_feat_size=3, cls_out_channels=8,
                    reg_cls_out_channels=4, reg_offset_out_channels=4)  # fmt: skip


def test_keys_are_mmdetections() -> None:
    names = {name.split(".")[0] for name in make_head().state_dict()}
    assert names == {
        *("cls_fcs", "fc_cls", "reg_pre_convs", "reg_post_conv_xs", "reg_post_conv_ys", "upsample_x", "upsample_y"),
        *("reg_conv_att_x", "reg_conv_att_y", "fc_reg_cls", "fc_reg_offset"),
    }
    assert make_head().state_dict()["reg_post_conv_xs.0.conv.weight"].shape == (4, 4, 1, 3)


def test_a_mirrored_roi_has_mirrored_sides() -> None:
    """With mirrored kernels, left and right change places, and top and bottom stay."""
    head = make_head()
    mirrored = make_head()
    for (name, conv), other in zip(head.named_modules(), mirrored.modules(), strict=True):
        if isinstance(conv, nn.Conv2d):
            other.weight.data = conv.weight.data.flip(3)
        if name == "upsample_x":
            other.weight.data = conv.weight.data.flip(2)
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    plain, flipped = head(x).deltas.view(2, 2, 4, 3), mirrored(x.flip(3)).deltas.view(2, 2, 4, 3)
    torch.testing.assert_close(flipped, plain[:, :, [1, 0, 2, 3]])


def test_the_dense_head_says_how_sure_it_is_in_prediction_alone() -> None:
    head = SABLRetinaHead(2, 4, 3, stacked_convs=1, feat_channels=4)
    levels = [torch.randn(1, 4, 3, 2)]
    assert head.train()(levels).quality is None
    output = head.eval()(levels)
    assert output.box_deltas.shape == (1, 6, 24)
    assert output.quality.shape == (1, 6)
    assert (output.quality.sigmoid() <= 1).all()
