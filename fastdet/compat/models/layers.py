"""Layers of both dialects as Specs: activations, deformable convolutions, plugins, initialisations."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, as_list, at, name_of, place_of, spec
from fastdet.compat.models.common import norm_factory, options
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

ACTIVATIONS: dict[str, dict[str, Any]] = {
    "ReLU": {},
    "ReLU6": {},
    "LeakyReLU": {"negative_slope": 0.01},
    "SiLU": {},
    "GELU": {},
    "Sigmoid": {},
    "HSwish": {},
    "PReLU": {},
}
SAME_ACTIVATIONS = {"Swish": "SiLU"}
CARAFE: dict[str, Any] = {
    "up_kernel": 5,
    "up_group": 1,
    "encoder_kernel": 3,
    "encoder_dilation": 1,
    "compressed_channels": 64,
}
DEFORMABLE = ("DCN", "DCNv2")
CONVOLUTIONS = ("ConvWS", "ConvAWS", "Conv2dAdaptivePadding")
PLAIN_CONVOLUTIONS = ("Conv2d", "Conv")
PLUGINS: dict[str, dict[str, Any]] = {
    "ContextBlock": {"ratio": None, "pooling_type": "att", "fusion_types": ("channel_add",)},
    "GeneralizedAttention": {
        "num_heads": 9,
        "attention_type": "1111",
        "kv_stride": 2,
        "position_embedding_dim": -1,
        "position_magnitude": 1,
    },
}
# Plugins' arguments of which one value is run.
FIXED_PLUGIN_ARGUMENTS: dict[str, dict[str, Any]] = {"GeneralizedAttention": {"spatial_range": -1, "q_stride": 1}}
INITIALISERS = {
    "Xavier": "XavierInit",
    "Caffe2Xavier": "Caffe2XavierInit",
    "Normal": "NormalInit",
    "TruncNormal": "TruncNormalInit",
}


def activation(section: Section, default: Any, key: str = "act_cfg") -> Spec | bool:
    """What `act_cfg` asks for: False for none, True for a ReLU, else the Spec of the activation.

    Raises:
        UnsupportedConfig: an activation that fastdet does not have.
    """
    node = section.take(key, default)
    if node is None:
        return False
    if not isinstance(node, Mapping) or "type" not in node:
        raise section.wrong(key, node, "a dict with a type, or None")
    name = SAME_ACTIVATIONS.get(name_of(node), name_of(node))
    if name not in ACTIVATIONS:
        raise section.unsupported(
            f"activation {name_of(node)!r} is not supported", f"supported: {', '.join(ACTIVATIONS)}, Swish", key
        )
    inner = Section(node, name)
    inner.skip("type", "inplace")
    values = options(inner, ACTIVATIONS[name])
    inner.finish()
    return True if name == "ReLU" else spec(name, values, node)


def activation_argument(section: Section, default: Mapping[str, Any]) -> dict[str, Spec]:
    """The argument `act` of a backbone, unless it is the default.

    Raises:
        UnsupportedConfig: no activation at all.
    """
    own = activation(Section({"act_cfg": default}, section.name), None)
    found = activation(section, default)
    if isinstance(found, Spec):
        return {} if found == own else {"act": found}
    if not found:
        raise section.unsupported("a backbone without activations is not supported", "name one", "act_cfg")
    return {} if own is True else {"act": Spec.of("ReLU")}


def deformable(section: Section, key: str = "dcn") -> Spec | None:
    """The Spec of the deformable convolutions that a key asks for, None without any.

    Raises:
        UnsupportedConfig: another kind, or `fallback_on_stride`.
    """
    node = section.take(key)
    if node is None:
        return None
    if not isinstance(node, Mapping) or "type" not in node:
        raise section.wrong(key, node, "a dict with a type, or None")
    name = name_of(node)
    if name not in DEFORMABLE:
        raise section.unsupported(f"{key} of type {name!r} is not supported", "supported: DCN, DCNv2", key)
    inner = Section(node, name)
    inner.take("type")
    inner.only("fallback_on_stride", False)
    old = inner.whole("deformable_groups")
    groups = inner.whole("deform_groups", old or 1)
    inner.finish()
    return spec(name, {} if groups == 1 else {"deform_groups": groups}, node)


def convolution(section: Section) -> Spec | None:
    """The Spec of `conv_cfg`, None for torch's own convolution.

    Raises:
        UnsupportedConfig: a convolution that fastdet does not have.
    """
    node = section.node.get("conv_cfg")
    if isinstance(node, Mapping) and "type" in node:
        name = name_of(node)
        if name in DEFORMABLE:
            return deformable(section, "conv_cfg")
        if name in CONVOLUTIONS:
            inner = Section(section.take("conv_cfg"), name)
            inner.take("type")
            inner.finish()
            return spec(name, {}, node)
        if name not in PLAIN_CONVOLUTIONS:
            supported = ", ".join((PLAIN_CONVOLUTIONS[0], *CONVOLUTIONS, *DEFORMABLE))
            raise section.unsupported(f"convolution {name!r} is not supported", f"supported: {supported}", "conv_cfg")
    section.take("conv_cfg")
    return None


def conv_and_norm(section: Section, norm_default: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments `conv` and `norm`, as far as the section asks for them."""
    found = {"norm": norm_factory(section, norm_default), "conv": convolution(section)}
    return {key: value for key, value in found.items() if value is not None}


def switchable(section: Section) -> Spec | None:
    """The Spec of the switchable convolutions that `sac` asks for, None without any."""
    node = section.take("sac")
    if node is None:
        return None
    inner = Section(node, "sac")
    inner.only("type", "SAC", "mmcv.SAC")
    values = options(inner, {"use_deform": False})
    inner.finish()
    return spec("SAC", values, node)


def block_plugins(section: Section) -> tuple[Spec, ...]:
    """The Specs of `plugins`: layers inside bottlenecks.

    Raises:
        UnsupportedConfig: a plugin that fastdet does not have.
    """
    specs = []
    for node in as_list(section.take("plugins")):
        plugin = Section(node, "plugins")
        layer_node = plugin.take("cfg")
        if not isinstance(layer_node, Mapping) or "type" not in layer_node:
            raise ConfigError(f"a plugin needs cfg, a dict with a type{at(place_of(node))}")
        name = name_of(layer_node)
        if name not in PLUGINS:
            raise UnsupportedConfig(
                f"plugin {name!r} of {section.name} is not supported{at(place_of(layer_node, 'type'))}\n"
                f"  supported: {', '.join(PLUGINS)}"
            )
        inner = Section(layer_node, name)
        inner.take("type")
        values = options(inner, PLUGINS[name])
        for key, value in FIXED_PLUGIN_ARGUMENTS.get(name, {}).items():
            inner.only(key, value)
        postfix = inner.take("postfix", "")
        inner.finish()
        arguments: dict[str, Any] = {
            "layer": spec(name, values, layer_node),
            "position": plugin.text("position"),
        }
        stages = plugin.take("stages")
        if stages is not None:
            arguments["stages"] = tuple(stages)
        if postfix != "":
            arguments["postfix"] = postfix
        plugin.finish()
        specs.append(spec("BlockPlugin", arguments, node))
    return tuple(specs)


def initialiser(section: Section) -> Spec | None:
    """The Spec of an `init_cfg` that draws all convolutions from one distribution; other kinds are left in place."""
    node = section.node.get("init_cfg")
    if not isinstance(node, Mapping) or name_of(node) not in INITIALISERS or node.get("layer") != "Conv2d":
        return None
    name, keys = name_of(node), set(node) - {"type", "layer"}
    if name == "Xavier" and node.get("distribution") != "uniform":
        return None
    if keys - ({"distribution"} if name == "Xavier" else {"std"} if name in ("Normal", "TruncNormal") else set()):
        return None
    section.take("init_cfg")
    return spec(INITIALISERS[name], {"std": node["std"]} if "std" in node else {}, node)
