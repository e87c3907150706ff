"""Parts of the second stage's heads: pooling, box heads, mask heads, shared layers."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, at, name_of, place_of, spec
from fastdet.compat.models.common import initial_weights, layer_factories, options
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

Weights = tuple[Pretrained, ...]

COUNTS = {
    "num_shared_convs": 0,
    "num_shared_fcs": 0,
    "num_cls_convs": 0,
    "num_cls_fcs": 0,
    "num_reg_convs": 0,
    "num_reg_fcs": 0,
}
WIDTHS = {"conv_out_channels": 256, "fc_out_channels": 1024}
# What each of MMDetection's box heads fixes, and what it lets one choose, in terms of ConvFCBBoxHead.
BBOX_HEADS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "BBoxHead": ({}, {}),
    "ConvFCBBoxHead": ({}, COUNTS | WIDTHS),
    "Shared2FCBBoxHead": ({"num_shared_fcs": 2}, WIDTHS),
    "Shared4Conv1FCBBoxHead": ({"num_shared_convs": 4, "num_shared_fcs": 1}, WIDTHS),
}
BBOX_HEAD: dict[str, Any] = {
    "num_classes": 80,
    "in_channels": 256,
    "roi_feat_size": 7,
    "reg_class_agnostic": False,
    "with_avg_pool": False,
}
MASK_HEAD: dict[str, Any] = {
    "num_classes": 80,
    "in_channels": 256,
    "num_convs": 4,
    "conv_kernel_size": 3,
    "conv_out_channels": 256,
    "class_agnostic": False,
}
RES_LAYER: dict[str, Any] = {
    "depth": None,
    "stage": 3,
    "stride": 2,
    "dilation": 1,
    "style": "pytorch",
    "norm_eval": True,
}


def part_section(node: Any, role: str, *supported: str) -> Section:
    """The node without its type, which must be one of those that fastdet runs in this role."""
    if not isinstance(node, Mapping) or "type" not in node:
        raise ConfigError(f"{role} must be a dict with a type, not {node!r}{at(place_of(node))}")
    name = name_of(node)
    if name not in supported:
        raise UnsupportedConfig(
            f"{role} {name!r} is not supported{at(place_of(node, 'type'))}\n  supported here: {', '.join(supported)}"
        )
    section = Section(node, name)
    section.take("type")
    return section


def extractor(node: Any, role: str) -> Spec:
    section = part_section(node, role, "SingleRoIExtractor")
    layer = part_section(section.take("roi_layer"), f"{role}.roi_layer", "RoIAlign")
    values = options(layer, {"output_size": None, "sampling_ratio": 0, "aligned": True})
    layer.only("pool_mode", "avg")
    layer.skip("use_torchvision")
    layer.finish()
    values |= options(section, {"featmap_strides": None, "finest_scale": 56})
    section.only("init_cfg", None)
    section.skip("out_channels")  # the features say it
    section.finish()
    return spec("SingleRoIExtractor", values, node)


def bbox_head(section: Section) -> Spec:
    """The head's parameters; what the section holds of losses and coder stays in it."""
    fixed, free = BBOX_HEADS[section.name]
    values = fixed | options(section, BBOX_HEAD | free)
    if free:
        values |= layer_factories(section)
    for predictor in ("reg_predictor_cfg", "cls_predictor_cfg"):
        section.only(predictor, {"type": "Linear"})
    section.only("with_cls", True)
    section.only("with_reg", True)
    section.only("predict_box_type", "hbox")
    return spec("ConvFCBBoxHead", values, section.node)


def mask_head(section: Section) -> Spec:
    values = options(section, MASK_HEAD)
    values |= layer_factories(section)
    section.skip("roi_feat_size")  # the extractor says it
    section.only("predictor_cfg", {"type": "Conv"})
    upsample = Section(section.take("upsample_cfg", {"type": "deconv", "scale_factor": 2}), "upsample_cfg")
    upsample.only("type", "deconv", "nearest", "bilinear", None)
    method, scale = upsample.node.get("type"), upsample.whole("scale_factor")
    upsample.finish()
    if method is not None and scale is None:
        raise ConfigError(f"upsample_cfg of {section.name} needs scale_factor{at(upsample.place())}")
    if method != "deconv":
        values["upsample"] = method
    if scale not in (None, 2):
        values["scale_factor"] = scale
    return spec("FCNMaskHead", values, section.node)


def shared_head(node: Any) -> tuple[Spec, Weights]:
    section = part_section(node, "shared_head", "ResLayer")
    weights = initial_weights(section, "roi_head.shared_head")
    values = options(section, RES_LAYER) | layer_factories(section, {"type": "BN"})
    section.only("with_cp", False)
    section.only("dcn", None)
    section.only("pretrained", None)
    section.finish()
    return spec("ResLayer", values, node), weights
