"""Backbones of both dialects as Specs."""

from typing import Any

from fastdet.compat.dialect import Section, name_of, spec
from fastdet.compat.models.common import initial_weights, layer_factories, options
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec

RESNET: dict[str, Any] = {
    "depth": None,
    "in_channels": 3,
    "stem_channels": None,
    "base_channels": 64,
    "num_stages": 4,
    "strides": (1, 2, 2, 2),
    "dilations": (1, 1, 1, 1),
    "out_indices": (0, 1, 2, 3),
    "style": "pytorch",
    "deep_stem": False,
    "avg_down": False,
    "frozen_stages": -1,
    "norm_eval": True,
    "with_cp": False,
    "zero_init_residual": True,
}
RESNET_NAMES = ("ResNet", "ResNetV1d")


def translate_backbone(node: Any, module: str = "backbone") -> tuple[Spec, tuple[Pretrained, ...]]:
    """The backbone's Spec and the weights it starts from. Backbones unknown here are carried by name.

    Raises:
        ConfigError: an argument that a known backbone does not have.
        UnsupportedConfig: deformable convolutions or plugins in a ResNet.
    """
    name = name_of(node)
    section = Section(node, name if name not in RESNET_NAMES else "ResNet")
    section.take("type")
    weights = initial_weights(section, module)
    if name not in RESNET_NAMES:
        return spec(name, section.left(), node), weights
    values = options(section, RESNET)
    if name == "ResNetV1d":
        values |= {"deep_stem": True, "avg_down": True}
    section.only("dcn", None)
    section.only("plugins", None)
    section.only("pretrained", None)
    section.skip("stage_with_dcn")
    values |= layer_factories(section, {"type": "BN"})
    section.finish()
    return spec("ResNet", values, node), weights
