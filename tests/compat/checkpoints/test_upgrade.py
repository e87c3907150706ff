"""Weights of MMDetection 1.x: the background moves, heads get their new place, towers their new names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdet.compat.checkpoints import load_checkpoint, upgrade
from fastdet.utils.errors import CheckpointError

Save = Callable[..., Path]
CE = "loss_cls=dict(type='CrossEntropyLoss', use_sigmoid={})"
TWO_STAGE = (
    "configs/a.py\nmodel = dict(type='MaskRCNN', rpn_head=dict(type='RPNHead', " + CE.format(True) + "), "
    "bbox_head=dict(type='SharedFCBBoxHead', num_classes=3, reg_class_agnostic={}, " + CE.format(False) + "))\n"
)


def rows(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def upgraded(save: Save, config: str, weights: dict[str, torch.Tensor], version: str = "1.2.0") -> dict[str, Any]:
    """The weights as lists."""
    path = save({"meta": {"mmdet_version": version, "config": config}, "state_dict": weights, "optimizer": {"x": 1}})
    result = upgrade(load_checkpoint(path))
    assert result.optimizer is None
    return {name: value.tolist() for name, value in result.state_dict.items()}


def test_heads_move_under_roi_head_and_the_background_class_to_the_end(save: Save) -> None:
    weights = {
        "backbone.conv1.weight": rows(1),
        "bbox_head.fc_cls.bias": rows(0, 1, 2),
        "bbox_head.fc_cls.weight": rows(0, 1, 2).view(3, 1),
        "mask_head.conv_logits.bias": rows(0, 1, 2),
    }
    assert upgraded(save, TWO_STAGE.format(False), weights) == {
        "backbone.conv1.weight": [1],
        "roi_head.bbox_head.fc_cls.bias": [1, 2, 0],
        "roi_head.bbox_head.fc_cls.weight": [[1], [2], [0]],
        "roi_head.mask_head.conv_logits.bias": [1, 2],
    }


def test_box_regression_loses_the_background_unless_it_is_class_agnostic(save: Save) -> None:
    weights = {"bbox_head.fc_reg.bias": torch.arange(12.0), "bbox_head.fc_reg.weight": torch.arange(12.0).view(12, 1)}
    changed = upgraded(save, TWO_STAGE.format(False), weights)
    assert changed["roi_head.bbox_head.fc_reg.bias"] == [4, 5, 6, 7, 8, 9, 10, 11]
    assert changed["roi_head.bbox_head.fc_reg.weight"][0] == [4]
    assert len(upgraded(save, TWO_STAGE.format(True), weights)["roi_head.bbox_head.fc_reg.bias"]) == 12


def test_sigmoid_classifiers_have_no_background_to_move(save: Save) -> None:
    config = "model = dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', num_classes=3, " + CE.format(True) + "))"
    weights = {"bbox_head.retina_cls.bias": torch.arange(6.0), "bbox_head.cls_convs.0.weight": rows(5)}
    assert upgraded(save, config, weights) == {
        "bbox_head.retina_cls.bias": [0, 1, 2, 3, 4, 5],
        "bbox_head.cls_convs.0.weight": [5],
    }
    assert "bbox_head.cls_convs.0.conv.weight" in upgraded(save, config, weights, version="0.5.3")


def test_ssd_classifiers_are_turned_for_each_anchor(save: Save) -> None:
    config = "model = dict(type='SingleStageDetector', bbox_head=dict(type='SSDHead', num_classes=3))"
    changed = upgraded(save, config, {"bbox_head.cls_convs.1.bias": torch.arange(6.0)})
    assert changed == {"bbox_head.cls_convs.1.bias": [1, 2, 0, 4, 5, 3]}


def test_softmax_proposals_are_turned_up_to_2_4(save: Save) -> None:
    config = "model = dict(type='RPN', rpn_head=dict(type='RPNHead', " + CE.format(False) + "))"
    weights = {"rpn_head.rpn_cls.bias": rows(0, 1, 2, 3)}
    for version in ("1.0.0", "2.4.0"):
        assert upgraded(save, config, weights, version) == {"rpn_head.rpn_cls.bias": [1, 0, 3, 2]}


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"mmdet_version": "2.25.0", "config": "x = 1"}, "written by MMDetection 2.25.0(?s:.*)load as they are"),
        ({}, "without a meta.mmdet_version"),
        ({"mmdet_version": "1.0.0"}, "does not hold its config"),
    ],
)
def test_files_that_need_no_upgrade_or_tell_too_little_are_refused(
    meta: dict[str, str], message: str, save: Save
) -> None:
    path = save({"meta": meta, "state_dict": {"a": rows(1)}})
    with pytest.raises(CheckpointError, match=message):
        upgrade(load_checkpoint(path))
