"""2.x model keys become 3.x keys."""

from typing import Any

import pytest

from fastdet.compat.v2_model import is_loop, move_settings, upgrade_model
from fastdet.config.configdict import ConfigDict, adopt
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import model, old_experiment, written


def upgraded(**changes: Any) -> ConfigDict:
    found = written(model(**changes))
    upgrade_model(found)
    return found


@pytest.mark.parametrize("name", ["model", "backbone"])
def test_pretrained_is_the_backbones_initial_weights(name: str) -> None:
    values = model()
    (values if name == "model" else values["backbone"])["pretrained"] = "torchvision://resnet18"
    found = written(values)
    upgrade_model(found)
    assert found["backbone"]["init_cfg"] == {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}
    assert "pretrained" not in found


def test_pretrained_none_means_none() -> None:
    assert "init_cfg" not in upgraded(pretrained=None)["backbone"]


def test_pretrained_counts_more_than_a_base_files_init_cfg() -> None:
    values = model(pretrained="b.pth")
    values["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": "a.pth"}
    with pytest.warns(UserWarning, match=r"pretrained='b.pth' is used"):
        found = upgraded(**values)
    assert found["backbone"]["init_cfg"]["checkpoint"] == "b.pth"


def test_timm_backbones_keep_their_own_pretrained() -> None:
    found = upgraded(backbone={"type": "mmcls.TIMMBackbone", "pretrained": True})
    assert found["backbone"] == {"type": "mmpretrain.TIMMBackbone", "pretrained": True}


def test_old_keys_of_proposals() -> None:
    rpn = {"nms_across_levels": False, "nms_pre": 2000, "nms_post": 500, "max_num": 1000, "nms_thr": 0.7}
    assert upgraded(test_cfg={"rpn": rpn})["test_cfg"]["rpn"] == {
        "nms_pre": 2000, "max_per_img": 1000, "nms": {"type": "nms", "iou_threshold": 0.7},
    }  # fmt: skip


def test_nms_post_counts_without_max_num() -> None:
    assert upgraded(test_cfg={"rpn": {"nms_post": 500}})["test_cfg"]["rpn"] == {"max_per_img": 500}


def test_nms_across_levels_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match=r"nms_across_levels=True.*\n  config.py:7"):
        upgraded(test_cfg={"rpn": {"nms_across_levels": True}})


@pytest.mark.parametrize(
    "rpn", [{"nms_thr": 0.7, "nms": {"type": "nms", "iou_threshold": 0.5}}, {"max_num": 1, "max_per_img": 2}]
)
def test_contradicting_spellings_are_errors(rpn: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="contradict each other"):
        upgraded(test_cfg={"rpn": rpn})


def test_iou_thr_of_nms_is_its_threshold() -> None:
    found = upgraded(test_cfg={"rcnn": {"nms": {"type": "soft_nms", "iou_thr": 0.5}}})
    assert found["test_cfg"]["rcnn"]["nms"] == {"type": "soft_nms", "iou_threshold": 0.5}


@pytest.mark.parametrize(
    ("extra", "on_inputs", "result"),
    [(True, True, "on_input"), (True, False, "on_output"), (False, True, False), ("on_lateral", True, "on_lateral")],
)
def test_where_extra_convolutions_start(extra: Any, on_inputs: bool, result: Any) -> None:
    neck = {"type": "FPN", "add_extra_convs": extra, "extra_convs_on_inputs": on_inputs}
    assert upgraded(neck=neck)["neck"] == {"type": "FPN", "add_extra_convs": result}


def test_heads_with_focal_loss_take_every_anchor() -> None:
    assert upgraded()["train_cfg"]["sampler"] == {"type": "PseudoSampler"}
    head = {"type": "SSDHead", "loss_cls": {"type": "CrossEntropyLoss"}}
    assert "sampler" not in upgraded(bbox_head=head)["train_cfg"]


def test_costs_become_a_list() -> None:
    assigner = {"type": "HungarianAssigner", "cls_cost": {"type": "FocalLossCost", "weight": 2.0}}
    costs = upgraded(train_cfg={"assigner": assigner})["train_cfg"]["assigner"]["match_costs"]
    assert [c["type"] for c in costs] == ["FocalLossCost", "BBoxL1Cost", "IoUCost"]


def test_settings_at_the_top_level_are_the_models() -> None:
    values = model()
    settings = {key: values.pop(key) for key in ("train_cfg", "test_cfg")}
    assert old_experiment(model=values, **settings) == old_experiment()


def test_a_loop_at_the_top_level_is_no_setting() -> None:
    assert all(is_loop(adopt(s)) for s in ({"type": "TestLoop"}, {}, {"by_epoch": True, "max_epochs": 3}))
    assert not any(is_loop(adopt(s)) for s in ({"rpn": {}}, {"nms_pre": 5}, {"assigner": {}}))


def test_settings_in_two_places_contradict() -> None:
    cfg = written({"train_cfg": {"debug": True}})
    with pytest.raises(ConfigError, match=r"(?s)stands at the top level and in the model.*config.py:7"):
        move_settings(cfg, written(model()))
