"""SSDHead: keys, order of predictions over levels with different numbers of anchors."""

import torch

from fastdet.models.heads import SSDHead
from fastdet.models.layers.norm import batch_norm


def test_every_level_has_predictors_of_its_own() -> None:
    head = SSDHead(3, (4, 8), (1, 2))
    assert {name: tuple(v.shape) for name, v in head.state_dict().items() if name.endswith("weight")} == {
        "cls_convs.0.0.weight": (4, 4, 3, 3),
        "cls_convs.1.0.weight": (8, 8, 3, 3),
        "reg_convs.0.0.weight": (4, 4, 3, 3),
        "reg_convs.1.0.weight": (8, 8, 3, 3),
    }


def test_predictions_follow_level_cell_and_anchor() -> None:
    head = SSDHead(1, (1, 1), (1, 2))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.cls_convs[1][0].bias.copy_(torch.arange(4.0))  # type: ignore[index, union-attr]
    output = head([torch.zeros(2, 1, 1, 2), torch.zeros(2, 1, 1, 1)])
    assert output.cls_logits[0].tolist() == [[0, 0], [0, 0], [0, 1], [2, 3]]
    assert output.box_deltas.shape == (2, 4, 4)
    assert output.level_lengths == (2, 2)


def test_predictors_may_be_separable() -> None:
    head = SSDHead(1, (4,), (1,), use_depthwise=True, norm=batch_norm(), act=True)
    assert head.state_dict()["cls_convs.0.0.conv.weight"].shape == (4, 1, 3, 3)
    assert head.state_dict()["cls_convs.0.1.weight"].shape == (2, 4, 1, 1)
    assert "cls_convs.0.0.bn.weight" in head.state_dict()
    assert head([torch.rand(1, 4, 3, 2)]).cls_logits.shape == (1, 6, 2)
