"""RetinaSepBNHead and YOLOV3Head: keys, what levels share, order of predictions."""

import pytest
import torch

from fastdet.models.heads import RetinaSepBNHead, YOLOV3Head
from fastdet.models.layers.norm import batch_norm


def test_levels_share_convolutions_and_have_norms_of_their_own() -> None:
    head = RetinaSepBNHead(2, 3, 1, 2, stacked_convs=1, feat_channels=4, norm=batch_norm())
    state = head.state_dict()
    assert {"cls_convs.0.0.conv.weight", "cls_convs.1.0.conv.weight", "cls_convs.1.0.bn.bias"} <= set(state)
    assert state["cls_convs.0.0.conv.weight"].data_ptr() == state["cls_convs.1.0.conv.weight"].data_ptr()
    assert state["cls_convs.0.0.bn.bias"].data_ptr() != state["cls_convs.1.0.bn.bias"].data_ptr()
    output = head([torch.rand(2, 3, 4, 4), torch.rand(2, 3, 2, 2)])
    assert output.cls_logits.shape == (2, 20, 2)
    with pytest.raises(ValueError, match="zip"):
        head([torch.rand(2, 3, 4, 4)])


def test_one_layer_says_boxes_objectness_and_classes() -> None:
    head = YOLOV3Head(2, [1, 1], [1, 1], [16, 8], num_anchors=1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.convs_pred[1].get_parameter("bias").copy_(torch.arange(7.0))
    output = head([torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 2, 1)])
    assert output.level_lengths == (1, 2)
    assert output.box_deltas[0, 1].tolist() == [0, 1, 2, 3]
    assert output.quality is not None
    assert output.quality[0].tolist() == [0, 4, 4]
    assert output.cls_logits[0, 2].tolist() == [5, 6]


def test_the_first_objectness_expects_eight_objects() -> None:
    head = YOLOV3Head(2, [1], [1], [32])
    bias = head.convs_pred[0].get_parameter("bias").detach().view(3, 7)
    assert bias[:, 4].sigmoid().tolist() == pytest.approx([8 / 19**2] * 3)
    assert bias[:, 5:].sigmoid().flatten().tolist() == pytest.approx([0.01] * 6)
    assert not bias[:, :4].any()
    assert {"convs_bridge.0.conv.weight", "convs_pred.0.weight"} <= set(head.state_dict())
