"""The box head of the second stage: names, shapes, initial values."""

import pytest
import torch

from fastdet.models.heads.bbox import ConvFCBBoxHead


def shapes(head):
    return {name: tuple(value.shape) for name, value in head.state_dict().items()}


def test_two_shared_linear_layers_have_the_names_and_shapes_of_shared2fc():
    assert shapes(ConvFCBBoxHead(num_classes=3, in_channels=8, num_shared_fcs=2, fc_out_channels=16)) == {
        "shared_fcs.0.weight": (16, 8 * 49),
        "shared_fcs.0.bias": (16,),
        "shared_fcs.1.weight": (16, 16),
        "shared_fcs.1.bias": (16,),
        "fc_cls.weight": (4, 16),
        "fc_cls.bias": (4,),
        "fc_reg.weight": (12, 16),
        "fc_reg.bias": (12,),
    }


def test_branches_of_their_own_have_their_own_convolutions_and_linear_layers():
    head = ConvFCBBoxHead(
        2,
        4,
        roi_feat_size=3,
        num_shared_convs=1,
        num_cls_fcs=1,
        num_reg_convs=1,
        conv_out_channels=5,
        fc_out_channels=6,
    )
    found = shapes(head)
    assert found["shared_convs.0.conv.weight"] == (5, 4, 3, 3)
    assert found["cls_fcs.0.weight"] == (6, 5 * 9)
    assert found["fc_cls.weight"] == (3, 6)
    assert found["reg_convs.0.conv.weight"] == (5, 5, 3, 3)
    assert found["fc_reg.weight"] == (8, 5 * 9)
    output = head(torch.zeros(7, 4, 3, 3))
    assert output.logits.shape == (7, 3)
    assert output.deltas.shape == (7, 8)


def test_averaged_features_go_straight_to_the_predictors():
    head = ConvFCBBoxHead(2, 4, with_avg_pool=True, reg_class_agnostic=True)
    assert shapes(head) == {
        "fc_cls.weight": (3, 4),
        "fc_cls.bias": (3,),
        "fc_reg.weight": (4, 4),
        "fc_reg.bias": (4,),
    }
    x = torch.randn(2, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(x).logits, head.fc_cls(x.mean(dim=(2, 3))))


def test_initial_weights_have_the_published_distributions():
    torch.manual_seed(0)
    head = ConvFCBBoxHead(num_classes=80, in_channels=16, num_shared_fcs=2, fc_out_channels=256)
    assert head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.05)
    bound = (6 / (16 * 49 + 256)) ** 0.5
    assert head.shared_fcs[0].weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert all((value == 0).all() for name, value in head.named_parameters() if name.endswith("bias"))


def test_no_rois_give_no_output():
    output = ConvFCBBoxHead(3, 4, num_shared_fcs=1, fc_out_channels=8)(torch.zeros(0, 4, 7, 7))
    assert output.logits.shape == (0, 4)
    assert output.deltas.shape == (0, 12)


def test_convolutions_after_shared_linear_layers_are_refused():
    with pytest.raises(ValueError, match="num_cls_convs and num_reg_convs must be 0"):
        ConvFCBBoxHead(3, 4, num_shared_fcs=1, num_cls_convs=1)
