"""`Detectron2Wrapper` configs: what their settings become, and what is refused."""

from typing import Any

import pytest

from fastdet.compat.models import translate_model
from fastdet.config.configdict import adopt
from fastdet.config.schema import Pretrained
from fastdet.registry import Source, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig
from tests.compat.checkpoints.test_detectron2 import FPN, RESNET, RETINANET


def translated(settings: dict[str, Any], **more: Any) -> tuple[Spec, tuple[Pretrained, ...]]:
    node = adopt({"type": "Detectron2Wrapper", "detector": settings, **more}, Source("c.py", 3))
    return translate_model(node)


def test_a_faster_rcnn_has_the_settings_of_detectron2() -> None:
    settings = RESNET | FPN | {"weights": "detectron2://ImageNetPretrained/MSRA/R-50.pkl"}
    model, weights = translated(settings, bgr_to_rgb=True)
    args = model.args
    assert weights == (Pretrained(module="", checkpoint="detectron2://ImageNetPretrained/MSRA/R-50.pkl"),)
    assert args["preprocess"].args["to_rgb"] is True
    assert args["preprocess"].args["pad_divisor"] == 32
    assert (args["backbone"].args["style"], args["backbone"].args["frozen_stages"]) == ("caffe", 1)
    assert args["backbone"].args["norm"] == Spec.of("BN", requires_grad=False)
    assert args["rpn"].args["priors"].args["scales"] == (8.0,)
    assert args["rpn"].args["criterion"].args["loss_bbox"] == Spec.of("L1Loss")
    assert args["rpn"].args["postprocess"].args["nms_pre"] == 6000
    assert args["rpn"].args["train_postprocess"].args["max_per_img"] == 2000
    assert args["roi"].args["coder"].args["target_stds"] == (0.1, 0.1, 0.2, 0.2)
    assert args["roi_head"].args["bbox_head"].args["num_shared_fcs"] == 2
    assert "mask_head" not in args["roi_head"].args


@pytest.mark.filterwarnings("ignore:.*moving average")
def test_a_retinanet_has_detectron2s_extra_levels_and_anchors() -> None:
    model, _ = translated(RETINANET)
    neck, dense = model.args["neck"].args, model.args["dense"].args
    assert (neck["add_extra_convs"], neck["relu_before_extra_convs"], neck["start_level"]) == ("on_input", True, 1)
    assert dense["priors"].args["scales"] == pytest.approx((4, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)))
    assert dense["criterion"].args["loss_bbox"] == Spec.of("SmoothL1Loss", beta=0.1)


def test_losses_of_retinanet_are_said_to_be_normalised_otherwise() -> None:
    with pytest.warns(UserWarning, match="moving average"):
        translated(RETINANET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta_architecture": "PanopticFPN"}, "meta_architecture 'PanopticFPN' is not supported"),
        ({"keypoint_on": True}, "detector with keypoint_on=True is not supported"),
        ({"resnets": {**RESNET["resnets"], "norm": "GN"}}, "detector.resnets with norm='GN' is not supported"),
        ({"resnets": {}}, r"detector.resnets: out_features=\['res4'\] is not supported"),
        ({"roi_heads": {}}, "detector.roi_heads: name='Res5ROIHeads' is not supported"),
        ({"anchor_generator": {"sizes": [[32, 64, 128, 256, 512]]}}, "one list of sizes a level"),
        ({"anchor_generator": {"sizes": [[32], [64], [100], [256], [512]]}}, "one list of sizes a level"),
        ({"rpn": {**FPN["rpn"], "bbox_reg_loss_type": "giou"}}, "bbox_reg_loss_type='giou' is not supported"),
        ({"roi_box_head": {**FPN["roi_box_head"], "pooler_type": "ROIPool"}}, "pooler 'ROIPool' is not supported"),
    ],
)
def test_settings_without_a_part_here_are_refused_with_their_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedConfig, match=message) as caught:
        translated(RESNET | FPN | change)
    assert "c.py:3" in str(caught.value)


def test_the_settings_may_have_their_first_name() -> None:
    model = translate_model(adopt({"type": "Detectron2Wrapper", "d2_detector": RESNET | FPN}))
    assert model == translated(RESNET | FPN)


def test_a_misspelt_setting_is_an_error_with_close_names() -> None:
    with pytest.raises(ConfigError, match=r"unknown argument 'mask_onn' for detector(?s:.*)mask_on"):
        translated(RESNET | FPN | {"mask_onn": True})
