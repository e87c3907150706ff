"""Backbones of MMPretrain, formerly MMClassification, that detectors name as `mmpretrain.X` and `mmcls.X`.

Their defaults are those of classification: the last map alone, batch norms that train.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastdet.compat.dialect import Section, at, spec
from fastdet.compat.models.common import norm_factory, options
from fastdet.compat.models.layers import activation_argument, conv_and_norm
from fastdet.compat.models.residual import BATCH_NORM, REGNET, RESNET, regnet_arch
from fastdet.utils.errors import ConfigError

SCOPE = "mmpretrain."
NEGATIVE = {"type": "LeakyReLU", "inplace": True}
# Without defaults: what differs from MMDetection's networks is always written.
OWN_DEFAULTS: dict[str, Any] = {"out_indices": None, "norm_eval": None}
SWIN_ARCHS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {"depths": (2, 2, 18, 2)},
    "base": {"embed_dims": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    "large": {"embed_dims": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)},
}
SWIN: dict[str, Any] = {
    "patch_size": 4,
    "in_channels": 3,
    "window_size": 7,
    "drop_rate": 0.0,
    "drop_path_rate": 0.1,
    "with_cp": False,
}
CSP: dict[str, Any] = {"in_channels": 3, "frozen_stages": -1, "norm_eval": False}
VIT: dict[str, Any] = {
    "img_size": 224,
    "patch_size": 16,
    "in_channels": 3,
    "drop_path_rate": 0.0,
    "qkv_bias": True,
    "final_norm": True,
    "with_cls_token": True,
    "interpolate_mode": "bicubic",
    "frozen_stages": -1,
}
VIT_NAMES = {"s": "small", "b": "base", "l": "large", "h": "huge", "deit-t": "deit-tiny", "deit-s": "deit-small"}
VIT_NAMES |= {"deit-b": "deit-base"}


def _given(section: Section, known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that differ from the table, with what every network of classification has by default."""
    values = options(section, known)
    values.setdefault("norm_eval", False)
    return {"out_indices": (3,)} | values


def _resnet(section: Section) -> tuple[str, dict[str, Any]]:
    section.only("expansion", None)
    section.only("drop_path_rate", 0.0, 0)
    if section.flag("deep_stem", False):
        raise section.unsupported(
            "a deep stem has other names of weights here", "use MMDetection's own ResNetV1d or ResNet", "deep_stem"
        )
    values = _given(section, RESNET | OWN_DEFAULTS)
    if section.name == SCOPE + "ResNeXt":
        groups = {"groups": section.whole("groups", 32), "base_width": section.whole("width_per_group", 4)}
        values["block"] = spec("GroupedBottleneck", groups, section.node)
    return "ResNet", values | conv_and_norm(section, BATCH_NORM)


def _regnet(section: Section) -> tuple[str, dict[str, Any]]:
    values = {"arch": regnet_arch(section)} | _given(section, REGNET | OWN_DEFAULTS)
    return "RegNet", values | conv_and_norm(section, BATCH_NORM)


def _mobilenet_v3(section: Section) -> tuple[str, dict[str, Any]]:
    known = {"arch": "small", "out_indices": None, "frozen_stages": -1, "norm_eval": False, "with_cp": False}
    own = {"type": "BN", "eps": 1e-3, "momentum": 0.01}
    return "MobileNetV3", options(section, known) | conv_and_norm(section, own)


def _csp(kind: str, last: int) -> Callable[[Section], tuple[str, dict[str, Any]]]:
    """The translator of one of the cross-stage partial networks."""

    def translate(section: Section) -> tuple[str, dict[str, Any]]:
        if "arch" in section:
            place = at(section.place("arch"))
            raise ConfigError(f"{section.name} has no argument arch{place}\n  write depth={section.take('arch')!r}")
        values = {"kind": kind, "depth": section.whole("depth")} | options(section, CSP)
        if kind != "darknet":
            values |= options(section, {"deep_stem": False})
        values["out_indices"] = section.take("out_indices", (last,))
        return "CSPResNet", values | conv_and_norm(section, BATCH_NORM) | activation_argument(section, NEGATIVE)

    return translate


def _swin(section: Section) -> tuple[str, dict[str, Any]]:
    arch = section.take("arch", "tiny")
    if not isinstance(arch, Mapping):
        names = {name[0]: name for name in SWIN_ARCHS} | {name: name for name in SWIN_ARCHS}
        if str(arch).lower() not in names:
            raise section.wrong("arch", arch, f"one of {', '.join(SWIN_ARCHS)} or a dict")
        arch = SWIN_ARCHS[names[str(arch).lower()]]
    section.skip("img_size", "interpolate_mode", "norm_eval")  # positions are relative, and no batch norm is inside
    section.only("out_after_downsample", False)
    section.only("use_abs_pos_embed", False)
    section.only("stage_cfgs", {})
    section.only("patch_cfg", {})
    frozen = section.whole("frozen_stages", -1)
    values = {**arch, "out_indices": section.take("out_indices", (3,))} | options(section, SWIN)
    if frozen >= 0:
        values["frozen_stages"] = frozen + 1  # here 0 stands for the patches alone
    if not section.flag("pad_small_map", False):
        values["shifts_small_maps"] = False
    norm = norm_factory(section, {"type": "LN"})
    return "SwinTransformer", values | ({} if norm is None else {"norm": norm})


def _vit(section: Section) -> tuple[str, dict[str, Any]]:
    """VisionTransformer's name and arguments.

    Raises:
        UnsupportedConfig: a class token or a mean as output, and the variants' own layers.
    """
    kind = section.text("out_type", "cls_token")
    if "output_cls_token" in section:
        kind = "maps with class tokens" if section.flag("output_cls_token") else "featmap"
    if kind != "featmap":
        raise section.unsupported(
            f"out_type={kind!r} gives no map", "a detector needs out_type='featmap' (0.x: output_cls_token=False)"
        )
    arch = section.text("arch", "base")
    for key, value in (("drop_rate", 0.0), ("layer_scale_init_value", 0.0), ("pre_norm", False)):
        section.only(key, value)
    section.only("patch_cfg", {})
    section.only("layer_cfgs", {})
    indices = section.take("out_indices", -1)
    values = {"arch": VIT_NAMES.get(arch, arch), "out_indices": [indices] if isinstance(indices, int) else indices}
    values |= options(section, VIT)
    norm = norm_factory(section, {"type": "LN", "eps": 1e-6})
    return "VisionTransformer", values | ({} if norm is None else {"norm": norm})


TRANSLATORS: dict[str, Callable[[Section], tuple[str, dict[str, Any]]]] = {
    SCOPE + "ResNet": _resnet,
    SCOPE + "ResNeXt": _resnet,
    SCOPE + "RegNet": _regnet,
    SCOPE + "MobileNetV3": _mobilenet_v3,
    SCOPE + "CSPResNet": _csp("resnet", 3),
    SCOPE + "CSPResNeXt": _csp("resnext", 3),
    SCOPE + "CSPDarkNet": _csp("darknet", 4),
    SCOPE + "SwinTransformer": _swin,
    SCOPE + "VisionTransformer": _vit,
}
