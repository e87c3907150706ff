"""Parts of the second stage's heads: pooling, box heads, mask heads, shared layers."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, at, name_of, place_of, spec
from fastdet.compat.models.common import CLASS_LOSSES, binary_loss, initial_weights, layer_factories, options, part
from fastdet.compat.models.layers import CARAFE, FIXED_PLUGIN_ARGUMENTS, PLUGINS
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
DOUBLE_HEAD: dict[str, Any] = {
    "num_classes": 80,
    "in_channels": 256,
    "roi_feat_size": 7,
    "reg_class_agnostic": False,
    "num_convs": 4,
    "num_fcs": 2,
    "conv_out_channels": 1024,
    "fc_out_channels": 1024,
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
MASK_IOU_HEAD: dict[str, Any] = {
    "num_classes": 80,
    "in_channels": 256,
    "roi_feat_size": 14,
    "num_convs": 4,
    "num_fcs": 2,
    "conv_out_channels": 256,
    "fc_out_channels": 1024,
}
GRID_HEAD: dict[str, Any] = {
    "grid_points": 9,
    "num_convs": 8,
    "in_channels": 256,
    "conv_kernel_size": 3,
    "point_feat_channels": 64,
    "deconv_kernel_size": 4,
}
SEMANTIC_HEAD: dict[str, Any] = {
    "num_ins": None,
    "fusion_level": None,
    "num_convs": 4,
    "in_channels": 256,
    "conv_out_channels": 256,
    "num_classes": 183,
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
    """The Spec of a RoI extractor."""
    section = part_section(node, role, "SingleRoIExtractor", "GenericRoIExtractor")
    layer = part_section(section.take("roi_layer"), f"{role}.roi_layer", "RoIAlign")
    values = options(layer, {"output_size": None, "sampling_ratio": 0, "aligned": True})
    layer.only("pool_mode", "avg")
    layer.skip("use_torchvision")
    layer.finish()
    values |= options(section, {"featmap_strides": None})
    section.only("init_cfg", None)
    if section.name == "SingleRoIExtractor":
        values |= options(section, {"finest_scale": 56})
        section.skip("out_channels")  # the features say it
    else:
        values |= _all_levels(section)
    section.finish()
    return spec(section.name, values, node)


def _all_levels(section: Section) -> dict[str, Any]:
    """What a GenericRoIExtractor does with the levels."""
    values = options(section, {"aggregation": "sum"})
    before, after = section.take("pre_cfg"), section.take("post_cfg")
    levels = len(section.node.get("featmap_strides", ())) if "aggregation" in values else 1
    channels = section.whole("out_channels", 256) // max(levels, 1)
    if channels != 256:
        values["channels"] = channels
    if before is not None:
        conv = part_section(before, "pre_cfg", "ConvModule")
        size = conv.whole("kernel_size")
        conv.only("in_channels", channels)
        conv.only("out_channels", channels)
        conv.only("padding", size // 2)
        conv.only("act_cfg", {"type": "ReLU"})
        conv.only("norm_cfg", None)
        conv.only("conv_cfg", None)
        conv.skip("inplace")
        conv.finish()
        values["pre_kernel_size"] = size
    if after is not None:
        layer = part_section(after, "post_cfg", *PLUGINS)
        arguments = options(layer, PLUGINS[layer.name])
        for key, value in FIXED_PLUGIN_ARGUMENTS.get(layer.name, {}).items():
            layer.only(key, value)
        layer.skip("in_channels")  # those of what was pooled
        layer.finish()
        values["post"] = spec(layer.name, arguments, after)
    return values


def bbox_head(section: Section) -> Spec:
    """The head's parameters; what the section holds of losses and coder stays in it."""
    if section.name == "DoubleConvFCBBoxHead":
        name = section.name
        for needed in ("num_convs", "num_fcs"):
            if needed not in section:
                raise ConfigError(f"{name} needs {needed}{at(section.place())}")
        values = options(section, DOUBLE_HEAD) | layer_factories(section, {"type": "BN"})
        section.only("with_avg_pool", True)
    else:
        name = "ConvFCBBoxHead"
        fixed, free = BBOX_HEADS[section.name]
        values = fixed | options(section, BBOX_HEAD | free)
        if free:
            values |= layer_factories(section)
    for key in ("cls_predictor_cfg", "reg_predictor_cfg"):
        made = predictor(section, key, "Linear", "NormedLinear")
        if made is not None and name != "ConvFCBBoxHead":
            raise section.unsupported(f"{key} is not supported here", "leave it out", key)
        values |= {} if made is None else {key.removesuffix("_cfg"): made}
    section.only("with_cls", True)
    if not section.flag("with_reg", True):
        if name != "ConvFCBBoxHead":
            raise section.unsupported("a head without boxes is not supported here", "leave with_reg out", "with_reg")
        values["with_reg"] = False
    section.only("predict_box_type", "hbox")
    return spec(name, values, section.node)


def predictor(section: Section, key: str, plain: str, normed: str) -> Spec | None:
    """The Spec of a last layer; None for the plain kind.

    Raises:
        UnsupportedConfig: another kind, or a kernel's norm over its cells.
    """
    node = section.take(key)
    if node is None or name_of(node) == plain:
        return None
    layer = part_section(node, key, plain, normed)
    values = options(layer, {"tempearture": 20, "power": 1.0, "eps": 1e-6})
    layer.only("norm_over_kernel", False)
    layer.only("bias", True)
    layer.finish()
    return spec(normed, values, node)


def mask_head(section: Section) -> Spec:
    values = options(section, MASK_HEAD)
    if section.name == "HTCMaskHead" and section.flag("with_conv_res", True):
        values["with_conv_res"] = True
    values |= layer_factories(section)
    section.skip("roi_feat_size")  # the extractor says it
    made = predictor(section, "predictor_cfg", "Conv", "NormedConv2d")
    values |= {} if made is None else {"predictor": made}
    upsample = Section(section.take("upsample_cfg", {"type": "deconv", "scale_factor": 2}), "upsample_cfg")
    upsample.only("type", "deconv", "nearest", "bilinear", "carafe", None)
    method, scale = upsample.node.get("type"), upsample.whole("scale_factor")
    kernels = options(upsample, CARAFE) if method == "carafe" else {}
    upsample.finish()
    if method is not None and scale is None:
        raise ConfigError(f"upsample_cfg of {section.name} needs scale_factor{at(upsample.place())}")
    if method != "deconv":
        values["upsample"] = spec("Carafe", kernels, upsample.node) if method == "carafe" else method
    if scale not in (None, 2):
        values["scale_factor"] = scale
    return spec("FCNMaskHead", values, section.node)


def grid_head(node: Any) -> tuple[Spec, Spec, Weights]:
    """Head, loss and weights of heatmaps of grid points."""
    section = part_section(node, "grid_head", "GridHead")
    weights = initial_weights(section, "roi_head.grid_head")
    values = options(section, GRID_HEAD) | layer_factories(section, {"type": "GN", "num_groups": 36})
    section.skip("roi_feat_size")  # the extractor says it
    section.only("class_agnostic", False)
    loss = binary_loss(section, "loss_grid", {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 15})
    section.finish()
    return spec("GridHead", values, node), loss, weights


def mask_iou_head(node: Any) -> tuple[Spec, Spec, Weights]:
    """Head, loss and weights of masks' scores."""
    section = part_section(node, "mask_iou_head", "MaskIoUHead")
    weights = initial_weights(section, "roi_head.mask_iou_head")
    values = options(section, MASK_IOU_HEAD)
    loss = part(section.take("loss_iou", {"type": "MSELoss", "loss_weight": 0.5}), CLASS_LOSSES, "loss_iou")
    section.finish()
    return spec("MaskIoUHead", values, node), loss, weights


def semantic_head(node: Any) -> tuple[Spec, Spec, Weights]:
    """Head, criterion and weights of a semantic branch."""
    section = part_section(node, "semantic_head", "FusedSemanticHead")
    weights = initial_weights(section, "roi_head.semantic_head")
    values = options(section, SEMANTIC_HEAD) | layer_factories(section)
    loss = dict(section.take("loss_seg", {"type": "CrossEntropyLoss", "ignore_index": 255, "loss_weight": 0.2}))
    for old, new in (("ignore_label", "ignore_index"), ("loss_weight", "loss_weight")):  # as 2.x wrote them
        value = section.take(old)
        if value:
            loss[new] = value
    scale = section.number("seg_scale_factor", 1 / 8)
    criterion = {"loss_seg": part(loss, CLASS_LOSSES, "loss_seg")} | (
        {} if scale == 1 / 8 else {"seg_scale_factor": scale}
    )
    section.finish()
    return spec("FusedSemanticHead", values, node), spec("SemanticCriterion", criterion, node), weights


def shared_head(node: Any) -> tuple[Spec, Weights]:
    section = part_section(node, "shared_head", "ResLayer")
    weights = initial_weights(section, "roi_head.shared_head")
    values = options(section, RES_LAYER) | layer_factories(section, {"type": "BN"})
    section.only("with_cp", False)
    section.only("dcn", None)
    section.only("pretrained", None)
    section.finish()
    return spec("ResLayer", values, node), weights
