"""Necks of both dialects as Specs."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, name_of, spec
from fastdet.compat.models.common import initial_weights, layer_factories, options, relu_flag
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec

FPN: dict[str, Any] = {
    "in_channels": None,
    "out_channels": None,
    "num_outs": None,
    "start_level": 0,
    "end_level": -1,
    "add_extra_convs": False,
    "relu_before_extra_convs": False,
    "no_norm_on_lateral": False,
}


def translate_neck(model: Section) -> tuple[Spec | None, tuple[Pretrained, ...]]:
    """The Spec of the model's `neck`, None without one, and its weights. Necks unknown here are carried by name.

    Raises:
        ConfigError: an argument that a known neck does not have.
        UnsupportedConfig: a list of necks, another interpolation than by mode and scale.
    """
    node = model.take("neck")
    if node is None:
        return None, ()
    if not isinstance(node, Mapping):
        raise model.unsupported("a list of necks is not supported", "use one neck", "neck")
    name = name_of(node)
    section = Section(node, name)
    section.take("type")
    weights = initial_weights(section, "neck")
    if name != "FPN":
        return spec(name, section.left(), node), weights
    values = options(section, FPN)
    if values.get("add_extra_convs") is True:
        values["add_extra_convs"] = "on_input"
    values |= layer_factories(section)
    if relu_flag(section, None):
        values["act"] = True
    upsample = Section(section.take("upsample_cfg", {"mode": "nearest"}), "upsample_cfg")
    mode, scale = upsample.text("mode", "nearest"), upsample.number("scale_factor")
    upsample.finish()
    if mode != "nearest":
        values["upsample_mode"] = mode
    if scale is not None:
        values["upsample_scale"] = scale
    section.finish()
    return spec("FPN", values, node), weights
