"""Backbones of both dialects as Specs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastdet.compat.dialect import Section, frozen, name_of, spec
from fastdet.compat.models.common import initial_weights, options
from fastdet.compat.models.layers import (
    activation_argument,
    block_plugins,
    conv_and_norm,
    deformable,
    initialiser,
    switchable,
)
from fastdet.compat.models.mmpretrain import TRANSLATORS as CLASSIFICATION_NETWORKS
from fastdet.compat.models.residual import BATCH_NORM, REGNET, RESNET, regnet_arch
from fastdet.compat.models.vision_transformers import translate_convnext, translate_pvt, translate_swin
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec

CSP_NORM = {"type": "BN", "momentum": 0.03, "eps": 0.001}
LEAKY = {"type": "LeakyReLU", "negative_slope": 0.1}

GROUPS = {"groups": 1, "base_width": 4}
# Bottlenecks by the network's name: their Spec's name and arguments.
BLOCKS: dict[str, tuple[str, dict[str, Any]]] = {
    "ResNeXt": ("GroupedBottleneck", GROUPS),
    "Res2Net": ("Res2NetBottleneck", {"scales": 4, "base_width": 26}),
    "DetectoRS_ResNeXt": ("GroupedBottleneck", GROUPS),
    "ResNeSt": (
        "ResNeStBottleneck",
        GROUPS | {"radix": 2, "reduction_factor": 4, "avg_down_stride": True},
    ),
}
DEEP = {"ResNetV1d", "ResNeSt", "Res2Net"}  # networks with a deep stem and averaging shortcuts
MOBILENET: dict[str, Any] = {
    "widen_factor": 1.0,
    "out_indices": (1, 2, 4, 7),
    "frozen_stages": -1,
    "norm_eval": False,
    "with_cp": False,
}
DARKNET: dict[str, Any] = {"depth": 53, "out_indices": (3, 4, 5), "frozen_stages": -1, "norm_eval": True}
CSP: dict[str, Any] = {
    "arch": "P5",
    "deepen_factor": 1.0,
    "widen_factor": 1.0,
    "out_indices": (2, 3, 4),
    "frozen_stages": -1,
    "use_depthwise": False,
    "norm_eval": False,
}
POOLING_SQUARES = (5, 9, 13)
SSD_VGG: dict[str, Any] = {
    "depth": None,
    "with_last_pool": False,
    "ceil_mode": True,
    "out_feature_indices": (22, 34),
}
EFFICIENTNET: dict[str, Any] = {
    "arch": "b0",
    "drop_path_rate": 0.0,
    "out_indices": (6,),
    "frozen_stages": 0,
    "norm_eval": False,
    "with_cp": False,
}
HRNET: dict[str, Any] = {"in_channels": 3, "norm_eval": True, "with_cp": False, "multiscale_output": True}
HR_STAGES = ("stage1", "stage2", "stage3", "stage4")
VISION_TRANSFORMERS = {"SwinTransformer", "PyramidVisionTransformer", "PyramidVisionTransformerV2"}
TIMM = "mmpretrain.TIMMBackbone"


def translate_backbone(node: Any, module: str = "backbone") -> tuple[Spec, tuple[Pretrained, ...]]:
    """The backbone's Spec and the weights it starts from. Backbones unknown here are carried by name.

    Raises:
        ConfigError: an argument that a known backbone does not have.
        UnsupportedConfig: layers or settings that fastdet does not run.
    """
    name = name_of(node)
    section = Section(node, name)
    section.take("type")
    if name == TIMM:
        return _timm(section, module)
    if name not in TRANSLATORS:
        weights = initial_weights(section, module)
        return spec(name, section.left(), node), weights
    kind, values = TRANSLATORS[name](section)
    weights = _weights(section, module)
    section.finish()
    return spec(kind, values, node), weights


def _weights(section: Section, module: str) -> tuple[Pretrained, ...]:
    """What `init_cfg`, or `pretrained` as older configs have it, loads."""
    checkpoint = section.text("pretrained")
    weights = initial_weights(section, module)
    if checkpoint and not weights:
        weights = (Pretrained(module=module, checkpoint=checkpoint),)
    if any(source.checkpoint.startswith("mmcls://") for source in weights):
        # Published are whole classifiers.
        return tuple(replace(source, prefix=source.prefix or "backbone.") for source in weights)
    if section.name == "SwinTransformer" and not section.flag("convert_weights", False):
        # Files that are not its authors' are those of a whole network.
        return tuple(replace(source, prefix=source.prefix or "backbone.") for source in weights)
    if section.name in VISION_TRANSFORMERS:
        section.skip("convert_weights")  # the file's names tell whose they are
    return weights


def _resnet(section: Section) -> tuple[str, dict[str, Any]]:
    """ResNet and the networks that are ResNets with other bottlenecks."""
    known = RESNET
    if section.name in DEEP:
        known = {k: v for k, v in RESNET.items() if k not in ("deep_stem", "avg_down")}
    if section.name == "Res2Net":
        known = {k: v for k, v in known.items() if k != "style"}
        section.only("style", "pytorch")
        section.only("deep_stem", True)
        section.only("avg_down", True)
    values = options(section, known)
    if section.name in DEEP:
        values |= {"deep_stem": True, "avg_down": True}
    if section.name in BLOCKS:
        block, arguments = BLOCKS[section.name]
        values["block"] = spec(block, options(section, arguments), section.node)
    return "ResNet", values | _residual_layers(section)


def _detectors(section: Section) -> tuple[str, dict[str, Any]]:
    """The ResNets of DetectoRS: switchable convolutions, feedback from a pyramid."""
    sac, stages = switchable(section), section.take("stage_with_sac", (False,) * 4)
    feedback = options(section, {"rfp_inplanes": None, "output_img": False})
    kind, values = _resnet(section)
    if sac is not None and any(stages):
        if "dcn" in values:
            raise section.unsupported("sac and dcn at once are not supported", "remove one of them", "sac")
        values |= {"dcn": sac, "stage_with_dcn": tuple(stages)}
    return kind, values | feedback


def _trident(section: Section) -> tuple[str, dict[str, Any]]:
    arguments = options(section, {"trident_dilations": None, "test_branch_idx": None})
    branches = section.whole("num_branch")
    if branches != len(arguments.get("trident_dilations", ())):
        raise section.wrong("num_branch", branches, "the length of trident_dilations")
    kind, values = _resnet(section)
    return kind, values | {"block": spec("TridentBottleneck", arguments, section.node)}


def _efficientnet(section: Section) -> tuple[str, dict[str, Any]]:
    plain = "conv_cfg" in section and section.node["conv_cfg"] is None
    values = options(section, EFFICIENTNET) | conv_and_norm(section, {"type": "BN", "eps": 1e-3})
    if plain:
        values["conv"] = Spec.of("Conv2d")
    return "EfficientNet", values | activation_argument(section, {"type": "Swish"})


def _timm(section: Section, module: str) -> tuple[Spec, tuple[Pretrained, ...]]:
    """A network of timm, which also knows where its weights are. timm checks the arguments that are its own."""
    values = options(section, {"model_name": None, "features_only": False, "in_channels": 3})
    weights = initial_weights(section, module)
    if section.flag("pretrained", False):
        weights = (Pretrained(module=f"{module}.timm_model", checkpoint=f"timm://{values['model_name']}"),)
    path = section.text("checkpoint_path")
    if path:
        weights = (Pretrained(module=f"{module}.timm_model", checkpoint=path),)
    if section.left():
        values["arguments"] = section.left()
    return spec("TIMMBackbone", values, section.node), weights


def _regnet(section: Section) -> tuple[str, dict[str, Any]]:
    values = {"arch": regnet_arch(section)} | options(section, REGNET)
    return "RegNet", values | _residual_layers(section)


def _residual_layers(section: Section) -> dict[str, Any]:
    """Norm, convolutions and plugins of a residual network."""
    values = conv_and_norm(section, BATCH_NORM)
    dcn, stages = deformable(section), section.take("stage_with_dcn", (False,) * 4)
    if dcn is not None and any(stages):
        if "conv" in values:
            raise section.unsupported("dcn and conv_cfg at once are not supported", "remove one of them", "dcn")
        values |= {"dcn": dcn, "stage_with_dcn": tuple(stages)}
    plugins = block_plugins(section)
    return values | ({"plugins": plugins} if plugins else {})


def _hrnet(section: Section) -> tuple[str, dict[str, Any]]:
    extra = Section(section.take("extra"), "extra")
    stages = [_hr_stage(Section(extra.take(name), f"extra.{name}")) for name in HR_STAGES]
    extra.finish()
    section.skip("zero_init_residual")  # MMDetection takes it and does not follow it
    return "HRNet", {"stages": stages} | options(section, HRNET) | conv_and_norm(section, BATCH_NORM)


def _hr_stage(stage: Section) -> Spec:
    values = {key: stage.take(key) for key in ("num_modules", "block", "num_blocks", "num_channels")}
    branches = stage.whole("num_branches", len(values["num_blocks"]))
    if branches != len(values["num_blocks"]):
        raise stage.wrong("num_branches", branches, f"the length of num_blocks, {len(values['num_blocks'])}")
    stage.finish()
    return spec("HRStage", values, stage.node)


def _mobilenet(section: Section) -> tuple[str, dict[str, Any]]:
    values = (
        options(section, MOBILENET)
        | conv_and_norm(section, BATCH_NORM)
        | activation_argument(section, {"type": "ReLU6"})
    )
    init = initialiser(section)
    return "MobileNetV2", values | ({} if init is None else {"init": init})


def _darknet(section: Section) -> tuple[str, dict[str, Any]]:
    return "Darknet", options(section, DARKNET) | conv_and_norm(section, BATCH_NORM) | activation_argument(
        section, LEAKY
    )


def _csp_darknet(section: Section) -> tuple[str, dict[str, Any]]:
    section.only("arch_ovewrite", None)
    values = options(section, CSP) | conv_and_norm(section, CSP_NORM) | activation_argument(section, {"type": "SiLU"})
    squares = section.take("spp_kernal_sizes", POOLING_SQUARES)
    return "CSPDarknet", values | _squares(squares)


def _csp_next(section: Section) -> tuple[str, dict[str, Any]]:
    section.only("arch_ovewrite", None)
    values = options(section, CSP | {"expand_ratio": 0.5, "channel_attention": True})
    values |= conv_and_norm(section, CSP_NORM) | activation_argument(section, {"type": "SiLU"})
    return "CSPNeXt", values | _squares(section.take("spp_kernel_sizes", POOLING_SQUARES))


def _ssd_vgg(section: Section) -> tuple[str, dict[str, Any]]:
    section.skip("out_indices")  # out_feature_indices say which maps come out
    if section.take("input_size") is not None or section.take("l2_norm_scale") is not None:
        raise section.unsupported(
            "input_size and l2_norm_scale belong to a backbone with SSD's extra layers inside",
            "remove them, and write the extra layers as neck=dict(type='SSDNeck', ...)",
            "input_size",
        )
    return "SSDVGG", options(section, SSD_VGG)


def _squares(sizes: Any) -> dict[str, Any]:
    return {} if frozen(sizes) == POOLING_SQUARES else {"spp_kernel_sizes": sizes}


TRANSLATORS: dict[str, Callable[[Section], tuple[str, dict[str, Any]]]] = {
    "ResNet": _resnet,
    "ResNetV1d": _resnet,
    "ResNeXt": _resnet,
    "Res2Net": _resnet,
    "ResNeSt": _resnet,
    "DetectoRS_ResNet": _detectors,
    "DetectoRS_ResNeXt": _detectors,
    "TridentResNet": _trident,
    "RegNet": _regnet,
    "HRNet": _hrnet,
    "MobileNetV2": _mobilenet,
    "EfficientNet": _efficientnet,
    "SwinTransformer": translate_swin,
    "PyramidVisionTransformer": translate_pvt,
    "PyramidVisionTransformerV2": translate_pvt,
    "mmpretrain.ConvNeXt": translate_convnext,
    "SSDVGG": _ssd_vgg,
    "Darknet": _darknet,
    "CSPDarknet": _csp_darknet,
    "CSPNeXt": _csp_next,
    **CLASSIFICATION_NETWORKS,
}
