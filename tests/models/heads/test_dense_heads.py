"""RetinaHead and RPNHead: keys, order of predictions, first values."""

import math

import pytest
import torch
from torch import Tensor, nn

from fastdet.models.heads import RetinaHead, RPNHead
from fastdet.models.layers.norm import group_norm
from fastdet.structures import DenseOutput


def test_maps_are_flattened_by_level_row_column_anchor() -> None:
    cls_maps = [torch.arange(8.0).view(1, 4, 1, 2), torch.arange(4.0).view(1, 4, 1, 1) + 100]  # 2 anchors, 2 classes
    box_maps = [torch.zeros(1, 8, 1, 2), torch.zeros(1, 8, 1, 1)]
    output = DenseOutput.from_maps(cls_maps, box_maps, num_anchors=2)
    assert output.cls_logits[0].tolist() == [[0, 2], [4, 6], [1, 3], [5, 7], [100, 101], [102, 103]]
    assert output.box_deltas.shape == (1, 6, 4)
    assert output.level_sizes == ((1, 2), (1, 1))
    assert output.level_lengths == (4, 2)


def test_the_retina_heads_towers_share_their_weights_between_levels() -> None:
    head = RetinaHead(3, 4, 2, feat_channels=8, stacked_convs=2)
    x = torch.rand(2, 4, 5, 6)
    output = head([x, x[:, :, :2, :3]])
    assert output.cls_logits.shape == (2, (30 + 6) * 2, 3)
    assert set(head.state_dict()) == {
        f"{tower}.{i}.conv.{kind}"
        for tower in ("cls_convs", "reg_convs")
        for i in (0, 1)
        for kind in ("weight", "bias")
    } | {f"retina_{name}.{kind}" for name in ("cls", "reg") for kind in ("weight", "bias")}


def test_the_retina_head_starts_with_a_small_probability() -> None:
    head = RetinaHead(3, 4, 2, feat_channels=8)
    assert head.retina_cls.bias is not None
    assert head.retina_cls.bias.sigmoid().tolist() == pytest.approx([0.01] * 6)
    assert head.retina_reg.weight.std().item() == pytest.approx(0.01, rel=0.3)


def test_the_retina_head_may_have_norms_and_a_background_class() -> None:
    head = RetinaHead(3, 4, 1, feat_channels=8, stacked_convs=1, norm=group_norm(2), background_class=True)
    assert "cls_convs.0.gn.weight" in head.state_dict()
    assert head([torch.rand(1, 4, 2, 2)]).cls_logits.shape == (1, 4, 4)
    assert RetinaHead(3, 4, 1, stacked_convs=0).retina_cls.in_channels == 4


def test_the_rpn_head_is_one_convolution_and_two_predictors() -> None:
    head = RPNHead(4, 3, feat_channels=8)
    assert set(head.state_dict()) == {
        f"rpn_{name}.{kind}" for name in ("conv", "cls", "reg") for kind in ("weight", "bias")
    }
    output = head([torch.rand(2, 4, 2, 3), torch.rand(2, 4, 1, 2)])
    assert output.cls_logits.shape == (2, 24, 1)
    assert output.box_deltas.shape == (2, 24, 4)


def test_the_rpn_head_may_have_more_convolutions_and_a_background_class() -> None:
    head = RPNHead(4, 3, feat_channels=8, num_convs=2, background_class=True)
    assert "rpn_conv.1.conv.weight" in head.state_dict()
    assert head([torch.rand(1, 4, 1, 1)]).cls_logits.shape == (1, 3, 2)
    with pytest.raises(ValueError, match="num_convs"):
        RPNHead(4, 3, num_convs=0)


def test_the_rpn_heads_features_are_rectified() -> None:
    head = RPNHead(1, 1, feat_channels=1)

    def set_to(layer: nn.Module, weight: float) -> None:
        assert isinstance(layer, nn.Conv2d)
        nn.init.constant_(layer.weight, weight)

    set_to(head.rpn_conv, -1.0)
    set_to(head.rpn_cls, 1.0)
    x: Tensor = torch.ones(1, 1, 1, 1)
    assert head([x]).cls_logits.item() == 0
    assert math.isclose(head([-x]).cls_logits.item(), 1)
