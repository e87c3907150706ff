"""Vision transformers and networks of their layout as Specs: Swin, PVT, ConvNeXt."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section
from fastdet.compat.models.common import norm_factory, options
from fastdet.compat.models.layers import activation_argument

RATES = {"drop_rate": 0.0, "attn_drop_rate": 0.0, "drop_path_rate": 0.1}
SWIN: dict[str, Any] = RATES | {
    "in_channels": 3,
    "embed_dims": 96,
    "patch_size": 4,
    "window_size": 7,
    "mlp_ratio": 4,
    "depths": (2, 2, 6, 2),
    "num_heads": (3, 6, 12, 24),
    "out_indices": (0, 1, 2, 3),
    "qkv_bias": True,
    "qk_scale": None,
    "patch_norm": True,
    "with_cp": False,
    "frozen_stages": -1,
}
PVT: dict[str, Any] = RATES | {
    "pretrain_img_size": 224,
    "in_channels": 3,
    "embed_dims": 64,
    "num_layers": (3, 4, 6, 3),
    "num_heads": (1, 2, 5, 8),
    "sr_ratios": (8, 4, 2, 1),
    "mlp_ratios": (8, 8, 4, 4),
    "out_indices": (0, 1, 2, 3),
    "qkv_bias": True,
}
# Arguments of the first version of which one value is run; the second one does not have them.
PVT_PATCHES: dict[str, Any] = {
    "patch_sizes": (4, 2, 2, 2),
    "paddings": (0, 0, 0, 0),
    "use_abs_pos_embed": True,
    "norm_after_stage": False,
    "use_conv_ffn": False,
}
STRIDES = (4, 2, 2, 2)
CONVNEXT: dict[str, Any] = {
    "arch": "tiny",
    "in_channels": 3,
    "stem_patch_size": 4,
    "drop_path_rate": 0.0,
    "layer_scale_init_value": 1e-6,
    "frozen_stages": 0,
    "with_cp": False,
}
GELU = {"type": "GELU"}


def translate_swin(section: Section) -> tuple[str, dict[str, Any]]:
    """SwinTransformer's name and arguments."""
    section.only("strides", STRIDES, list(STRIDES))
    section.only("use_abs_pos_embed", False)
    section.skip("pretrain_img_size")  # positions are relative
    return "SwinTransformer", options(section, SWIN) | _layers(section, {"type": "LN"})


def translate_pvt(section: Section) -> tuple[str, dict[str, Any]]:
    """PyramidVisionTransformer's name and arguments, of both versions."""
    section.only("num_stages", len(STRIDES))
    section.only("strides", STRIDES, list(STRIDES))
    values: dict[str, Any] = {"overlapping": True}
    if section.name == "PyramidVisionTransformer":
        values = {}
        for key, value in PVT_PATCHES.items():
            section.only(key, value, *([list(value)] if isinstance(value, tuple) else []))
    return "PyramidVisionTransformer", values | options(section, PVT) | _layers(section, {"type": "LN", "eps": 1e-6})


def translate_convnext(section: Section) -> tuple[str, dict[str, Any]]:
    """ConvNeXt's name and arguments.

    Raises:
        UnsupportedConfig: a last map that is averaged over its cells, which is MMPretrain's default.
    """
    section.only("linear_pw_conv", True)
    section.only("use_grn", False)
    if section.flag("gap_before_final_norm", True):
        raise section.unsupported(
            "the last map is averaged over its cells", "write gap_before_final_norm=False", "gap_before_final_norm"
        )
    values = options(section, CONVNEXT)
    indices = section.take("out_indices", -1)
    values["out_indices"] = [i % len(STRIDES) for i in ([indices] if isinstance(indices, int) else indices)]
    return "ConvNeXt", values | _layers(section, {"type": "LN2d", "eps": 1e-6})


def _layers(section: Section, norm_default: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments `norm` and `act`."""
    norm = norm_factory(section, norm_default)
    return ({} if norm is None else {"norm": norm}) | activation_argument(section, GELU)
