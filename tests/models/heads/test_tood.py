"""TOODHead: keys, logits of mean probabilities, boxes from cells near by."""

import math

import pytest
import torch

from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.heads import TOODHead
from fastdet.models.heads.tood import mean_logit


def silent(head: TOODHead) -> TOODHead:
    """The head with all parameters 0 but the factors of levels."""
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if not name.startswith("scales"):
                parameter.zero_()
    return head


def head(**more: object) -> TOODHead:
    return TOODHead(2, 1, [8], stacked_convs=2, feat_channels=8, **more)  # type: ignore[arg-type]


def test_logits_are_those_of_the_geometric_mean() -> None:
    first, second = torch.tensor([0.0, 2.0, -3.0]), torch.tensor([0.0, -1.0, -30.0])
    mean = (first.sigmoid() * second.sigmoid()).sqrt()
    assert mean_logit(first, second).sigmoid().tolist() == pytest.approx(mean.tolist(), rel=1e-5)
    assert mean_logit(first, first).tolist() == pytest.approx(first.tolist(), abs=1e-5)


def test_logits_and_their_gradients_stay_finite() -> None:
    logits = torch.tensor([-500.0, -90.0, 0.0, 20.0, 90.0, 500.0], requires_grad=True)
    means = mean_logit(logits, logits.detach())
    means.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(means).all()
    assert torch.isfinite(logits.grad).all()
    assert means[:4].tolist() == pytest.approx([-500, -90, 0, 20], rel=1e-4)


def test_boxes_are_distances_from_the_cell_in_pixels() -> None:
    output = silent(head())([torch.zeros(1, 1, 1, 2)])
    assert output.box_deltas[0].tolist() == [[-8, -8, 8, 8], [0, -8, 16, 8]]  # a stride to each side


def test_boxes_may_be_deltas_of_square_anchors() -> None:
    output = silent(head(coder=DeltaXYWHBBoxCoder(), cells=4))([torch.zeros(1, 1, 1, 2)])
    assert output.box_deltas[0].tolist() == [[-16, -16, 16, 16], [-8, -16, 24, 16]]


def test_a_side_may_come_from_a_neighbour() -> None:
    moving = silent(head())
    with torch.no_grad():
        moving.reg_offset_module[-1].get_parameter("bias")[5] = 1.0  # the right side, one cell to the right
    boxes = moving([torch.zeros(1, 1, 1, 3)]).box_deltas[0].tolist()
    assert boxes[0] == [-8, -8, 16, 8]
    assert boxes[2] == [8, -8, 24, 8]  # outside the map there is 0: a side left of the other is not taken


def test_the_head_has_the_names_of_the_release() -> None:
    state = head(num_dcn=1).state_dict()
    assert state["inter_convs.0.conv.conv_offset.weight"].shape[0] == 4 * 27
    assert state["cls_decomp.layer_attention.0.weight"].shape == (1, 16, 1, 1)
    assert state["reg_decomp.reduction_conv.conv.weight"].shape == (8, 16, 1, 1)
    assert state["cls_prob_module.2.weight"].shape == (1, 2, 3, 3)
    assert state["reg_offset_module.2.weight"].shape == (8, 2, 3, 3)
    assert state["tood_cls.bias"].sigmoid().tolist() == pytest.approx([0.01, 0.01])


def test_layers_are_weighed_by_what_they_hold() -> None:
    part = head().cls_decomp
    with torch.no_grad():
        for layer in (part.layer_attention[0], part.layer_attention[2]):
            layer.get_parameter("weight").zero_()
        part.layer_attention[2].get_parameter("bias").copy_(torch.tensor([math.log(3), -50.0]))
        part.reduction_conv.conv.get_parameter("weight").fill_(1.0)
        part.reduction_conv.conv.get_parameter("bias").zero_()
    x = torch.ones(1, 16, 1, 1)
    assert part(x, x).flatten().tolist() == pytest.approx([8 * 0.75] * 8)
