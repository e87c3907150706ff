"""Backbones and necks become Specs: weights and where they go, older spellings, refusals with their place."""

from typing import Any

import pytest

from fastdet.compat.dialect import Section
from fastdet.compat.models.backbones import translate_backbone
from fastdet.compat.models.necks import translate_neck
from fastdet.compat.models.trident import translate_trident
from fastdet.config.configdict import adopt
from fastdet.config.schema import Pretrained
from fastdet.registry import Source, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

PLACE = Source("config.py", 3)
FILE = "https://example.org/file.pth"
DETECTORS = {"type": "DetectoRS_ResNet", "depth": 50, "conv_cfg": {"type": "ConvAWS"}}
SAC = {"sac": {"type": "SAC", "use_deform": True}, "stage_with_sac": (False, True, True, True)}
RFP = {
    "type": "RFP",
    "in_channels": [256, 512, 1024, 2048],
    "out_channels": 256,
    "num_outs": 5,
    "rfp_steps": 3,
    "aspp_out_channels": 64,
    "rfp_backbone": DETECTORS | {"rfp_inplanes": 256, "pretrained": "torchvision://resnet50"},
}
NORM = {"type": "BN", "requires_grad": True}
INNER = {"norm_cfg": NORM, "inplace": False, "order": ("act", "conv", "norm")}
FPG = {
    "type": "FPG",
    "in_channels": [256, 512],
    "out_channels": 256,
    "num_outs": 2,
    "stack_times": 1,
    "paths": ["bu"],
    "same_down_trans": None,
    "same_up_trans": INNER | {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1},
    "across_lateral_trans": INNER | {"type": "conv", "kernel_size": 1},
    "across_down_trans": INNER | {"type": "interpolation_conv", "mode": "nearest", "kernel_size": 3},
    "across_up_trans": None,
    "across_skip_trans": INNER | {"type": "conv", "kernel_size": 1},
    "output_trans": {"type": "last_conv", "kernel_size": 3, "order": ("act", "conv", "norm")},
    "norm_cfg": NORM,
    "skip_inds": [(0,), ()],
}


def backbone(**node: Any) -> tuple[Spec, tuple[Pretrained, ...]]:
    return translate_backbone(adopt(node, PLACE))


def neck(**node: Any) -> tuple[Spec | None, tuple[Pretrained, ...]]:
    return translate_neck(Section(adopt({"neck": node}, PLACE), "model"))


@pytest.mark.parametrize(
    "written",
    [
        {"init_cfg": {"type": "Pretrained", "checkpoint": FILE}},
        {"init_cfg": {"checkpoint": FILE}},
        {"pretrained": FILE},
    ],
)
def test_weights_may_be_named_in_three_ways(written: dict[str, Any]) -> None:
    _, weights = backbone(type="PyramidVisionTransformer", num_layers=[2, 2, 2, 2], **written)
    assert weights == (Pretrained(module="backbone", checkpoint=FILE),)


def test_written_defaults_are_left_out() -> None:
    spec, _ = backbone(
        type="SwinTransformer", depths=[2, 2, 6, 2], window_size=7, act_cfg={"type": "GELU"}, strides=[4, 2, 2, 2]
    )
    assert spec == Spec.of("SwinTransformer", norm=Spec.of("LN"))
    spec, _ = backbone(type="PyramidVisionTransformerV2", embed_dims=32, convert_weights=True)
    assert spec == Spec.of("PyramidVisionTransformer", overlapping=True, embed_dims=32, norm=Spec.of("LN", eps=1e-6))


def test_files_of_whole_networks_are_read_below_their_backbone() -> None:
    init = {"type": "Pretrained", "checkpoint": FILE}
    assert backbone(type="SwinTransformer", init_cfg=init)[1][0].prefix == "backbone."
    assert backbone(type="SwinTransformer", init_cfg=init, convert_weights=True)[1][0].prefix == ""
    _, weights = backbone(type="EfficientNet", arch="b3", init_cfg=init | {"prefix": "backbone"})
    assert weights[0].prefix == "backbone."


def test_convnexts_of_both_releases_are_one() -> None:
    spec, _ = backbone(type="mmpretrain.ConvNeXt", arch="small", out_indices=[0, -1], gap_before_final_norm=False)
    assert spec == Spec.of("ConvNeXt", arch="small", out_indices=(0, 3), norm=Spec.of("LN2d", eps=1e-6))
    with pytest.raises(UnsupportedConfig, match="averaged over its cells"):
        backbone(type="mmpretrain.ConvNeXt", arch="small")


def test_timm_gets_its_own_arguments_and_weights() -> None:
    spec, weights = backbone(
        type="mmpretrain.TIMMBackbone",
        model_name="tv_resnet50",
        features_only=True,
        pretrained=True,
        out_indices=(1, 2),
    )
    assert spec == Spec.of(
        "TIMMBackbone", model_name="tv_resnet50", features_only=True, arguments={"out_indices": (1, 2)}
    )
    assert weights == (Pretrained(module="backbone.timm_model", checkpoint="timm://tv_resnet50"),)


def test_an_efficientnet_pads_as_its_convolutions_say() -> None:
    assert "conv" not in backbone(type="EfficientNet", arch="b0")[0].args
    assert backbone(type="EfficientNet", arch="b0", conv_cfg=None)[0].args["conv"] == Spec.of("Conv2d")


def test_switchable_convolutions_stand_in_their_stages() -> None:
    spec, _ = backbone(**DETECTORS, **SAC, output_img=True)
    assert spec.type == "ResNet"
    assert spec.args["dcn"] == Spec.of("SAC", use_deform=True)
    assert spec.args["stage_with_dcn"] == (False, True, True, True)
    assert spec.args["output_img"]


def test_a_recursive_pyramid_has_a_backbone_and_weights_for_each_step() -> None:
    spec, weights = neck(**RFP)
    assert spec is not None
    assert [inner.type for inner in spec.args["rfp_modules"]] == ["ResNet", "ResNet"]
    assert spec.args["rfp_modules"][0].args["rfp_inplanes"] == 256
    assert weights == tuple(
        Pretrained(module=f"neck.rfp_modules.{i}", checkpoint="torchvision://resnet50") for i in range(2)
    )


def test_tridents_are_resnets_with_other_blocks() -> None:
    spec, _ = backbone(
        type="TridentResNet", depth=50, num_stages=3, trident_dilations=(1, 2, 3), num_branch=3, test_branch_idx=1
    )
    assert spec.args["block"] == Spec.of("TridentBottleneck", trident_dilations=(1, 2, 3), test_branch_idx=1)


def test_a_grid_is_its_levels_and_what_they_skip() -> None:
    spec, _ = neck(**FPG)
    assert spec is not None
    assert spec.args["skip_inds"] == ((0,), ())
    assert "paths" not in spec.args


def trident(**roi_head: Any) -> Section:
    shared = {"type": "ResLayer", "depth": 50, "stage": 3, "stride": 2, "dilation": 1, "norm_eval": True}
    branches = {"num_branch": 3, "test_branch_idx": 1}
    roi_layer = {"type": "RoIAlign", "output_size": 14, "sampling_ratio": 0}
    extractor = {"type": "SingleRoIExtractor", "roi_layer": roi_layer, "featmap_strides": [16]}
    box = {"type": "BBoxHead", "with_avg_pool": True, "in_channels": 2048, "roi_feat_size": 7, "num_classes": 80}
    node = {
        "type": "TridentFasterRCNN",
        "backbone": branches | {"type": "TridentResNet", "depth": 50, "num_stages": 3, "trident_dilations": (1, 2, 3)},
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": 1024,
            "anchor_generator": {"type": "AnchorGenerator", "scales": [8], "ratios": [1.0], "strides": [16]},
        },
        "roi_head": branches
        | {"type": "TridentRoIHead", "shared_head": shared, "bbox_roi_extractor": extractor, "bbox_head": box}
        | roi_head,
        "test_cfg": {
            "rpn": {"nms_pre": 10, "max_per_img": 10, "nms": {"type": "nms", "iou_threshold": 0.7}},
            "rcnn": {"score_thr": 0.05, "max_per_img": 10, "nms": {"type": "nms", "iou_threshold": 0.5}},
        },
    }
    section = Section(adopt(node, PLACE), "TridentFasterRCNN")
    section.take("type")
    return section


def test_a_tridentnet_is_a_two_stage_detector() -> None:
    spec, _ = translate_trident(trident())
    assert spec.type == "TwoStageDetector"
    assert spec.args["roi_head"].type == "StandardRoIHead"
    assert spec.args["backbone"].args["block"].type == "TridentBottleneck"
    with pytest.raises(ConfigError, match="test_branch_idx must be the backbone's, 1"):
        translate_trident(trident(test_branch_idx=2))
    every = trident(test_branch_idx=-1)
    every.node["backbone"]["test_branch_idx"] = -1
    with pytest.raises(UnsupportedConfig, match="testing all branches"):
        translate_trident(every)


@pytest.mark.parametrize(
    ("translate", "node", "message"),
    [
        (backbone, {"type": "SwinTransformer", "use_abs_pos_embed": True}, "use_abs_pos_embed=True"),
        (backbone, {"type": "SwinTransformer", "windows": 7}, "unknown argument 'windows'"),
        (backbone, {"type": "PyramidVisionTransformerV2", "patch_sizes": [4, 2, 2, 2]}, "unknown argument"),
        (backbone, DETECTORS | SAC | {"dcn": {"type": "DCN"}, "stage_with_dcn": (True,) * 4}, "at once"),
        (backbone, DETECTORS | {"sac": {"type": "DCN"}}, "sac with type='DCN'"),
        (
            backbone,
            {"type": "TridentResNet", "depth": 50, "num_branch": 2, "trident_dilations": (1,), "test_branch_idx": 0},
            "num_branch must be the length",
        ),
        (neck, RFP | {"rfp_backbone": None}, "rfp_backbone must be a dict"),
        (neck, FPG | {"paths": ["td"]}, "paths="),
        (neck, FPG | {"paths": ["bu", "bu"]}, "paths must be stack_times"),
        (neck, FPG | {"across_skip_trans": {"type": "identity"}}, "across_skip_trans is not supported"),
        (neck, {"type": "FPN_CARAFE", "upsample_cfg": {"type": "nearest"}}, "upsample_cfg with type='nearest'"),
    ],
)
def test_what_is_not_run_is_refused_with_its_place(translate, node: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnsupportedConfig), match=message) as problem:
        translate(**node)
    assert "config.py:3" in str(problem.value)
