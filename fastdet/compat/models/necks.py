"""Necks of both dialects as Specs."""

from collections.abc import Callable, Mapping
from typing import Any

from fastdet.compat.dialect import Section, frozen, name_of, spec
from fastdet.compat.models.backbones import translate_backbone
from fastdet.compat.models.common import initial_weights, norm_factory, options
from fastdet.compat.models.layers import CARAFE, activation, conv_and_norm, convolution, initialiser
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec

CSP_NORM = {"type": "BN", "momentum": 0.03, "eps": 0.001}
LEAKY = {"type": "LeakyReLU", "negative_slope": 0.1}

LEVELS: dict[str, Any] = {"in_channels": None, "out_channels": None}
PYRAMID: dict[str, Any] = LEVELS | {"num_outs": None, "start_level": 0, "end_level": -1}
FPN: dict[str, Any] = PYRAMID | {
    "add_extra_convs": False,
    "relu_before_extra_convs": False,
    "no_norm_on_lateral": False,
}
SSD_NECK: dict[str, Any] = LEVELS | {
    "level_strides": None,
    "level_paddings": None,
    "l2_norm_scale": 20.0,
    "last_kernel_size": 3,
    "use_depthwise": False,
}
ORDER = ("conv", "norm", "act")
# FPG's connections beside the norm of most.
ACT_FIRST = {"order": ("act", "conv", "norm")}
FPG_CONNECTIONS: dict[str, dict[str, Any]] = {
    "same_up_trans": ACT_FIRST | {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1},
    "across_lateral_trans": ACT_FIRST | {"type": "conv", "kernel_size": 1},
    "across_down_trans": ACT_FIRST | {"type": "interpolation_conv", "mode": "nearest", "kernel_size": 3},
    "across_skip_trans": ACT_FIRST | {"type": "conv", "kernel_size": 1},
    "output_trans": ACT_FIRST | {"type": "last_conv", "kernel_size": 3},
}
CSP_PYRAMID: dict[str, Any] = LEVELS | {"num_csp_blocks": 3, "use_depthwise": False}


def translate_neck(model: Section) -> tuple[Spec | None, tuple[Pretrained, ...]]:
    """The Spec of the model's `neck`, None without one, and its weights. Necks unknown here are carried by name.

    Raises:
        ConfigError: an argument that a known neck does not have.
        UnsupportedConfig: layers or settings that fastdet does not run.
    """
    node = model.take("neck")
    if node is None:
        return None, ()
    if isinstance(node, Mapping):
        return _neck(node, "neck")
    if not isinstance(node, list | tuple) or not all(isinstance(inner, Mapping) for inner in node):
        raise model.wrong("neck", node, "a dict, or a list of dicts")
    specs: list[Spec] = []
    weights: tuple[Pretrained, ...] = ()
    for index, inner in enumerate(node):
        neck, own = _neck(inner, f"neck.{index}")
        specs.append(neck)
        weights = (*weights, *own)
    return Spec.of("NeckChain", necks=specs), weights


def _neck(node: Mapping[str, Any], module: str) -> tuple[Spec, tuple[Pretrained, ...]]:
    name = name_of(node)
    section = Section(node, name)
    section.take("type")
    if name not in TRANSLATORS:
        weights = initial_weights(section, module)
        return spec(name, section.left(), node), weights
    values = TRANSLATORS[name](section)
    weights = initial_weights(section, module)
    if name == "RFP":
        backbones, own = _rfp_backbones(section, module)
        values["rfp_modules"] = backbones
        weights = (*weights, *own)
    section.finish()
    return spec(name, values, node), weights


def _rfp_backbones(section: Section, module: str) -> tuple[tuple[Spec, ...], tuple[Pretrained, ...]]:
    """The backbones of RFP's further steps, and their weights."""
    node, steps = section.take("rfp_backbone"), section.whole("rfp_steps")
    if not isinstance(node, Mapping):
        raise section.wrong("rfp_backbone", node, "a dict")
    specs: list[Spec] = []
    weights: tuple[Pretrained, ...] = ()
    for index in range(steps - 1):
        backbone, own = translate_backbone(node, f"{module}.rfp_modules.{index}")
        specs.append(backbone)
        weights = (*weights, *own)
    return tuple(specs), weights


def _fpn(section: Section) -> dict[str, Any]:
    values = _pyramid(section)
    upsample = Section(section.take("upsample_cfg", {"mode": "nearest"}), "upsample_cfg")
    mode, scale = upsample.text("mode", "nearest"), upsample.number("scale_factor")
    upsample.only("align_corners", None, False)
    upsample.finish()
    if mode != "nearest":
        values["upsample_mode"] = mode
    if scale is not None:
        values["upsample_scale"] = scale
    return values | _init(section)


def _rfp(section: Section) -> dict[str, Any]:
    values = _fpn(section)
    return values | options(section, {"aspp_out_channels": None, "aspp_dilations": (1, 3, 6, 1)})


def _dyhead(section: Section) -> dict[str, Any]:
    return options(section, LEVELS | {"num_blocks": 6, "zero_init_offset": True})


def _fpn_carafe(section: Section) -> dict[str, Any]:
    values = options(section, PYRAMID | {"order": ORDER}) | _norm(section) | _act(section, None, False)
    upsample = Section(section.take("upsample_cfg", {"type": "carafe"}), "upsample_cfg")
    upsample.only("type", "carafe", "mmcv.carafe")
    values |= options(upsample, CARAFE)
    upsample.finish()
    return values


def _fpg(section: Section) -> dict[str, Any]:
    """A grid of bottom-up pyramids with the connections of the paper's appendix, which all stock configs have."""
    known = {"stack_times": None, "skip_inds": None, "inter_channels": None, "add_extra_convs": False}
    values = options(section, PYRAMID | known)
    norm_node = section.node.get("norm_cfg")
    paths = section.take("paths")
    if not isinstance(paths, list | tuple) or set(paths) != {"bu"}:
        raise section.unsupported(f"paths={paths!r} is not supported", "supported: 'bu' for each pyramid", "paths")
    if len(paths) != values["stack_times"]:
        raise section.wrong("paths", paths, f"stack_times ({values['stack_times']}) of 'bu'")
    section.only("same_down_trans", None)
    section.only("across_up_trans", None)
    for key, connection in FPG_CONNECTIONS.items():
        node = section.take(key)
        wanted = dict(connection) | ({} if key == "output_trans" else {"norm_cfg": norm_node})
        written = {name: value for name, value in (node or {}).items() if name != "inplace"}
        if frozen(written) != frozen(wanted):
            raise section.unsupported(f"this {key} is not supported", f"supported: {wanted}", key)
    return values | _norm(section)


def _pyramid(section: Section) -> dict[str, Any]:
    """What FPN and PAFPN share."""
    values = options(section, FPN)
    if values.get("add_extra_convs") is True:
        values["add_extra_convs"] = "on_input"
    return values | conv_and_norm(section) | _act(section, None, False)


def _nas_fpn(section: Section) -> dict[str, Any]:
    section.skip("add_extra_convs")  # 2.x takes it and does not follow it
    return options(section, PYRAMID | {"stack_times": None}) | _norm(section)


def _bfp(section: Section) -> dict[str, Any]:
    known = {"in_channels": None, "num_levels": None, "refine_level": 2, "refine_type": None}
    return options(section, known) | conv_and_norm(section)


def _hrfpn(section: Section) -> dict[str, Any]:
    section.skip("norm_cfg")  # MMDetection takes it and makes no norm
    values = options(section, LEVELS | {"num_outs": 5, "pooling_type": "AVG", "stride": 1, "with_cp": False})
    conv = convolution(section)
    return values | ({} if conv is None else {"conv": conv})


def _ssd_neck(section: Section) -> dict[str, Any]:
    values = options(section, SSD_NECK) | conv_and_norm(section) | _act(section, {"type": "ReLU"}, True)
    return values | _init(section)


def _channel_mapper(section: Section) -> dict[str, Any]:
    values = options(section, LEVELS | {"kernel_size": 3, "num_outs": None})
    bias = section.take("bias", "auto")
    if bias != "auto":
        values["bias"] = bias
    return values | conv_and_norm(section) | _act(section, {"type": "ReLU"}, True)


def _yolox_pafpn(section: Section) -> dict[str, Any]:
    return options(section, CSP_PYRAMID) | _csp_layers(section)


def _csp_next_pafpn(section: Section) -> dict[str, Any]:
    return options(section, CSP_PYRAMID | {"expand_ratio": 0.5}) | _csp_layers(section)


def _csp_layers(section: Section) -> dict[str, Any]:
    upsample = Section(section.take("upsample_cfg", {}), "upsample_cfg")
    upsample.only("scale_factor", 2)
    mode = upsample.text("mode", "nearest")
    upsample.finish()
    values = conv_and_norm(section, CSP_NORM) | _act(section, {"type": "SiLU"}, Spec.of("SiLU"))
    return values | ({} if mode == "nearest" else {"upsample_mode": mode})


def _yolo_v3(section: Section) -> dict[str, Any]:
    values = options(section, LEVELS | {"num_scales": None}) | conv_and_norm(section, {"type": "BN"})
    return values | _act(section, LEAKY, Spec.of("LeakyReLU", negative_slope=0.1))


def _norm(section: Section, default: Any = None) -> dict[str, Any]:
    norm = norm_factory(section, default)
    return {} if norm is None else {"norm": norm}


def _act(section: Section, default: Any, own: Spec | bool) -> dict[str, Any]:
    """The argument `act`, unless it is the part's own."""
    found = activation(section, default)
    return {} if found == own else {"act": found}


def _init(section: Section) -> dict[str, Any]:
    """The argument `init`, unless the neck's own initialisation is asked for."""
    init = initialiser(section)
    return {} if init is None or init.type == "XavierInit" else {"init": init}


TRANSLATORS: dict[str, Callable[[Section], dict[str, Any]]] = {
    "FPN": _fpn,
    "PAFPN": _pyramid,
    "NASFPN": _nas_fpn,
    "RFP": _rfp,
    "DyHead": _dyhead,
    "FPG": _fpg,
    "FPN_CARAFE": _fpn_carafe,
    "BFP": _bfp,
    "HRFPN": _hrfpn,
    "SSDNeck": _ssd_neck,
    "ChannelMapper": _channel_mapper,
    "YOLOXPAFPN": _yolox_pafpn,
    "CSPNeXtPAFPN": _csp_next_pafpn,
    "YOLOV3Neck": _yolo_v3,
}
