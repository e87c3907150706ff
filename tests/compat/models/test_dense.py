"""RetinaNet and RPN dicts become Specs: equal for equal meaning, refused with place and fix otherwise."""

from pathlib import Path
from typing import Any

import pytest

from fastdet.compat.models import translate_model
from fastdet.compat.models.dense import translate_rpn
from fastdet.compat.v2 import upgrade
from fastdet.config.configdict import ConfigDict, adopt
from fastdet.config.file import load_config
from fastdet.config.schema import Pretrained
from fastdet.registry import Source, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig
from tests.config.wheels import unpack_configs
from tests.golden.configs import dense


def changed(path: str, value: Any) -> ConfigDict:
    """RetinaNet with one value set by a dotted path, as if written in line 7 of config.py."""
    model = adopt(dense.retinanet_r18())
    *parents, last = path.split(".")
    node = model
    for name in parents:
        node = node[name]
    node.put(last, adopt(value, Source("config.py", 7)), Source("config.py", 7))
    return model


def arguments(spec: Spec, *path: str) -> dict[str, Any]:
    """The arguments of a nested Spec."""
    for name in path:
        spec = spec.args[name]
    return dict(spec.args)


def test_a_retinanet_is_a_single_stage_detector() -> None:
    spec, weights = translate_model(dense.retinanet_r18())
    assert spec.type == "SingleStageDetector"
    assert spec.args["preprocess"] == Spec.of(
        "Preprocess", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), to_rgb=True, pad_divisor=32
    )
    assert spec.args["backbone"] == Spec.of("ResNet", depth=18, frozen_stages=1, norm=Spec.of("BN"))
    assert spec.args["bbox_head"] == Spec.of("RetinaHead", num_classes=80, in_channels=256, num_anchors=9)
    assert arguments(spec, "dense", "postprocess") == {
        "max_per_img": 100,
        "nms_pre": 1000,
        "min_bbox_size": 0,
        "score_thr": 0.05,
        "iou_threshold": 0.5,
    }
    assert arguments(spec, "dense", "criterion") == {"loss_cls": Spec.of("FocalLoss"), "loss_bbox": Spec.of("L1Loss")}
    assert weights == (Pretrained(module="backbone", checkpoint="torchvision://resnet18"),)


def test_an_rpn_proposes_and_has_one_class() -> None:
    spec, weights = translate_model(dense.rpn_r50_caffe())
    assert arguments(spec, "backbone")["norm"] == Spec.of("BN", requires_grad=False)
    assert spec.args["bbox_head"] == Spec.of("RPNHead", in_channels=256, num_anchors=3)
    assert spec.args["dense"].args["postprocess"].type == "ProposalPostprocess"
    criterion = arguments(spec, "dense", "criterion")
    assert criterion["prefix"] == "rpn_"
    assert criterion["class_agnostic"] is True
    assert arguments(spec, "dense", "sampler") == {"num": 256, "pos_fraction": 0.5, "add_gt_as_proposals": False}
    assert weights[0].checkpoint == "open-mmlab://detectron2/resnet50_caffe"


def test_written_and_omitted_defaults_are_equal() -> None:
    plain = translate_model(dense.retinanet_r18())
    for path, value in (
        ("backbone.with_cp", False),
        ("backbone.dilations", [1, 1, 1, 1]),
        ("backbone.norm_cfg", {"type": "BN"}),
        ("backbone.conv_cfg", None),
        ("neck.end_level", -1),
        ("neck.upsample_cfg", {"mode": "nearest"}),
        ("bbox_head.reg_decoded_bbox", False),
        ("bbox_head.anchor_generator.center_offset", 0),
        ("bbox_head.bbox_coder.clip_border", True),
        ("train_cfg.sampler", None),
        ("train_cfg.assigner.gpu_assign_thr", 100),
        ("train_cfg.assigner.iou_calculator", {"type": "BboxOverlaps2D"}),
        ("data_preprocessor.pad_mask", True),
        ("test_cfg.nms.split_thr", 5000),
    ):
        assert translate_model(changed(path, value)) == plain, path


def test_settings_reach_their_part() -> None:
    def spec(path: str, value: Any) -> Spec:
        return translate_model(changed(path, value))[0]

    assert arguments(spec("bbox_head.norm_cfg", {"type": "GN", "num_groups": 32}), "bbox_head")["norm"] == Spec.of(
        "GN", num_groups=32
    )
    assert arguments(spec("neck.act_cfg", {"type": "ReLU"}), "neck")["act"] is True
    assert arguments(spec("train_cfg.allowed_border", 0), "dense")["allowed_border"] == 0
    assert arguments(spec("train_cfg.pos_weight", 2.0), "dense", "criterion")["pos_weight"] == 2.0
    assert arguments(spec("test_cfg.nms.class_agnostic", True), "dense", "postprocess")["class_agnostic"] is True
    softmax = spec("bbox_head.loss_cls", {"type": "CrossEntropyLoss"})
    assert arguments(softmax, "bbox_head")["background_class"] is True
    assert arguments(softmax, "dense", "postprocess")["use_sigmoid"] is False
    padded = spec("data_preprocessor.batch_augments", [{"type": "BatchFixedSizePad", "size": (64, 96)}])
    assert arguments(padded, "preprocess")["train_size"] == (64, 96)
    assert arguments(spec("backbone.type", "ResNetV1d"), "backbone")["deep_stem"] is True


def test_prefixes_of_weights_end_with_a_dot() -> None:
    init = {"type": "Pretrained", "checkpoint": "a.pth", "prefix": "backbone"}
    _, weights = translate_model(changed("backbone.init_cfg", init))
    assert weights == (Pretrained(module="backbone", checkpoint="a.pth", prefix="backbone."),)


def test_backbones_that_are_not_known_are_carried_by_name() -> None:
    model = dense.retinanet_r18() | {"backbone": {"type": "Swin", "depths": [2, 2]}}
    assert translate_model(model)[0].args["backbone"] == Spec.of("Swin", depths=(2, 2))


def test_proposals_of_training_stand_beside_those_of_the_test_if_they_differ() -> None:
    rpn = dense.rpn_r50_caffe()
    test = rpn["test_cfg"]["rpn"]
    _, same, _ = translate_rpn(rpn["rpn_head"], rpn["train_cfg"]["rpn"], dict(test), test)
    assert "train_postprocess" not in same.args
    _, other, _ = translate_rpn(rpn["rpn_head"], rpn["train_cfg"]["rpn"], test | {"max_per_img": 7}, test)
    assert arguments(other, "train_postprocess")["max_per_img"] == 7


@pytest.mark.parametrize(
    ("path", "value", "error", "message"),
    [
        (
            "type",
            "RetinaNett",
            UnsupportedConfig,
            r"detector 'RetinaNett' .*\n  config.py:7\n  did you mean 'RetinaNet'",
        ),
        (
            "backbone.dept",
            50,
            ConfigError,
            r"unknown argument 'dept' for ResNet\n  config.py:7\n  did you mean 'depth'",
        ),
        ("neck.num_out", 5, ConfigError, r"'num_out' for FPN\n  config.py:7\n  did you mean 'num_outs'"),
        ("bbox_head.feat_channel", 8, ConfigError, r"'feat_channel' for RetinaHead\n  config.py:7"),
        ("bbox_head.loss_cls.gama", 2, ConfigError, r"'gama' for FocalLoss\n  config.py:7\n  did you mean .*'gamma'"),
        ("train_cfg.assigner.pos_iou", 2, ConfigError, r"'pos_iou' for MaxIoUAssigner\n  config.py:7"),
        (
            "test_cfg.score_thresh",
            2,
            ConfigError,
            r"'score_thresh' for test_cfg\n  config.py:7\n  did you mean 'score_thr'",
        ),
        ("bbox_head.type", "PISARetinaHead", UnsupportedConfig, r"bbox_head 'PISARetinaHead' .*\n  config.py:7"),
        ("test_cfg.nms.type", "nms_match", UnsupportedConfig, r"test_cfg.nms with type='nms_match' .*\n  config.py:7"),
        ("neck", [{"type": "FPN"}, 3], ConfigError, r"neck must be a dict, or a list of dicts.*\n  config.py:7"),
        ("neck.act_cfg", {"type": "Mish"}, UnsupportedConfig, r"activation .*Mish.*\n  config.py:7"),
        ("backbone.dcn", {"type": "DCNv4"}, UnsupportedConfig, r"dcn of type 'DCNv4' .*\n  config.py:7"),
        (
            "backbone.init_cfg",
            {"type": "Normal", "std": 1},
            UnsupportedConfig,
            r"init_cfg is not supported\n  config.py:7",
        ),
        ("data_preprocessor.pad_value", 114, UnsupportedConfig, r"pad_value=114"),
        ("data_preprocessor.batch_augments", [{"type": "Mixup"}], UnsupportedConfig, r"batch augmentation Mixup"),
        ("bbox_head.anchor_generator", {"type": "SSDAnchorGenerator"}, UnsupportedConfig, r"SSDAnchorGenerator"),
        (
            "bbox_head.anchor_generator",
            {"type": "AnchorGenerator", "strides": [8]},
            ConfigError,
            r"needs strides, ratios",
        ),
        ("test_cfg", None, ConfigError, r"needs test_cfg"),
        ("test_cfg.max_per_img", 2.5, ConfigError, r"max_per_img must be a whole number, not 2.5\n  config.py:7"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(
    path: str, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        translate_model(changed(path, value))


def test_a_model_needs_a_type() -> None:
    with pytest.raises(ConfigError, match="model must be a dict with a type"):
        translate_model({})


@pytest.mark.parametrize(
    ("config", "own"),
    [
        ("retinanet/retinanet_r18_fpn_1x_coco.py", dense.retinanet_r18),
        ("rpn/rpn_r50-caffe_fpn_1x_coco.py", dense.rpn_r50_caffe),
    ],
)
def test_the_stock_configs_are_those_that_the_goldens_run(config: str, own: Any, tmp_path: Path) -> None:
    stock = load_config(unpack_configs("3.3.0", tmp_path) / config)
    assert translate_model(stock["model"]) == translate_model(own())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_stock_config_of_2x_means_the_same(tmp_path: Path) -> None:
    stock = load_config(unpack_configs("2.28.2", tmp_path) / "retinanet/retinanet_r18_fpn_1x_coco.py")
    assert translate_model(upgrade(stock)["model"]) == translate_model(dense.retinanet_r18())
