"""MMDetection 2.x transforms rewritten as 3.x ones, one by one, so that a pipeline may mix both."""

from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .dialect import Section, as_list, at, derived, dict_list, name_of, place_of, rename

# They turn arrays into tensors or pick what the model gets; fastdet's loader does that.
FORMATTING = frozenset(
    {"Collect", "DefaultFormatBundle", "ImageToTensor", "ToTensor", "ToDataContainer", "Transpose", "PackDetInputs"}
)
# 2.x transforms whose arguments mean something else in 3.x, and what to write instead.
REPLACED = {
    "Rotate": "Rotate(prob, level, ...)",
    "Shear": "ShearX and ShearY",
    "Translate": "TranslateX and TranslateY",
    "ColorTransform": "Color",
    "BrightnessTransform": "Brightness",
    "ContrastTransform": "Contrast",
    "EqualizeTransform": "Equalize",
}
# Sizes that 2.x writes as (height, width) and 3.x as (width, height).
SWAPPED = {
    "Pad": "size",
    "RandomCrop": "crop_size",
    "RandomCenterCropPad": "crop_size",
    "Mosaic": "img_scale",
    "MixUp": "img_scale",
    "RandomAffine": "border",
}
OLD_NAMES = frozenset({"Collect", "DefaultFormatBundle", "ImageToTensor", "ToDataContainer", "Normalize"})
OLD_KEYS = {
    "Resize": ("img_scale", "multiscale_mode", "ratio_range", "override", "bbox_clip_border"),
    "RandomFlip": ("flip_ratio",),
    "MultiScaleFlipAug": ("img_scale", "flip"),
}
NEW_NAMES = frozenset({"PackDetInputs", "RandomResize", "RandomChoiceResize", "FixScaleResize", "RandomChoice"})
NEW_KEYS = {"Resize": ("scale", "scale_factor", "clip_object_border"), "RandomFlip": ("prob",)}


def upgrade_pipeline(pipeline: Any, *, is_old: bool, name: str = "pipeline") -> list[ConfigDict]:
    """The pipeline in 3.x form; Normalize and Pad(size_divisor) stay in it (see v2_preprocess).

    Args:
        is_old: how to read a pipeline that does not show its own dialect: as 2.x or as 3.x.

    Raises:
        UnsupportedConfig: test-time augmentation inside the pipeline, or a 2.x transform without an equal in 3.x.
    """
    nodes = dict_list(pipeline, name)
    is_old = _dialect(nodes, is_old)
    result: list[ConfigDict] = []
    for node in nodes:
        result += _upgrade(ConfigDict(node), is_old)
    return result


def _dialect(nodes: list[ConfigDict], default: bool) -> bool:
    """True if the pipeline is written in 2.x; marks of 3.x count more, as old names may stand in a new pipeline."""
    for new, marks, keys in ((True, NEW_NAMES, NEW_KEYS), (False, OLD_NAMES, OLD_KEYS)):
        for node in nodes:
            kind = name_of(node)
            if kind in marks or any(key in node for key in keys.get(kind, ())):
                return not new
    return default


def _upgrade(node: ConfigDict, is_old: bool) -> list[ConfigDict]:
    kind = name_of(node)
    if kind in FORMATTING:
        return []
    if kind == "MultiScaleFlipAug" and (is_old or "img_scale" in node or "flip" in node):
        return _unwrap(node)
    if kind == "Resize" and (is_old or any(key in node for key in OLD_KEYS["Resize"])):
        return [_resize(node)]
    if kind == "RandomFlip":
        if "flip_ratio" in node:
            rename(node, "flip_ratio", "prob")
        # Without a probability it never flips; a node with further keys is kept, for their check.
        is_idle = node.get("prob") is None and not set(node) - {"type", "prob", "direction"}
        return [] if is_idle else [node]
    if kind == "AutoAugment":
        policies = [
            upgrade_pipeline(policy, is_old=is_old, name="AutoAugment.policies") for policy in node.get("policies", [])
        ]
        return [derived(node, type="RandomChoice", transforms=policies)]
    if is_old:
        _old_arguments(node, kind)
    return [node]


def _unwrap(node: ConfigDict) -> list[ConfigDict]:
    """The transforms inside a MultiScaleFlipAug of one scale and no flip, the scale written into its Resize."""
    section = Section(node, "MultiScaleFlipAug")
    scale, factor = section.take("img_scale"), section.take("scale_factor")
    scales = as_list(scale) if isinstance(scale, list) else [scale]
    flips = section.take("flip", False)
    section.skip("type", "flip_direction")
    if flips or len(scales) > 1 or len(as_list(factor)) > 1:
        raise section.unsupported(
            f"test-time augmentation in the test pipeline (scales {scale or factor}, flip={flips})",
            "give one img_scale and flip=False",
        )
    result = []
    for inner in dict_list(section.take("transforms", []), "MultiScaleFlipAug.transforms"):
        inner = ConfigDict(inner)
        if name_of(inner) == "Resize" and "img_scale" not in inner and "scale" not in inner:
            key, value = ("img_scale", scales[0]) if scale is not None else ("scale_factor", factor)
            inner.put(key, value, section.place("img_scale" if scale is not None else "scale_factor"))
        if name_of(inner) == "RandomFlip":
            continue
        result += _upgrade(inner, True)
    section.finish()
    return result


def _resize(node: ConfigDict) -> ConfigDict:
    """2.x Resize as Resize, RandomResize (a range or ratio) or RandomChoiceResize (a list of scales)."""
    section = Section(node, "Resize")
    section.skip("type", "override")
    scale = section.take("img_scale", section.take("scale"))
    mode, ratio = section.take("multiscale_mode", "range"), section.take("ratio_range")
    result = derived(node)
    scales = scale if isinstance(scale, list) else [scale]
    if mode not in ("range", "value"):
        raise section.wrong("multiscale_mode", mode, "'range' or 'value'")
    if ratio is not None:
        result.update(type="RandomResize", scale=scales[0], ratio_range=ratio)
    elif len(scales) == 1:
        result.update(type="Resize", scale=scales[0])
        factor = section.take("scale_factor")
        if scales[0] is None and factor is not None:
            result.update(scale=None, scale_factor=factor)
    elif mode == "value":
        result.update(type="RandomChoiceResize", scales=scales)
    elif len(scales) == 2:
        result.update(type="RandomResize", scale=scales)
    else:
        raise section.wrong("img_scale", scale, "two scales for multiscale_mode='range' (or use 'value')")
    result["keep_ratio"] = section.flag("keep_ratio", True)
    if not section.flag("bbox_clip_border", True):
        result["clip_object_border"] = False
    for key in ("backend", "interpolation"):
        if key in section:
            result[key] = section.take(key)
    section.finish("img_scale", "multiscale_mode", "ratio_range", "keep_ratio", "bbox_clip_border", "override")
    for key in result:
        result.sources.setdefault(key, place_of(node, "img_scale" if "scale" in key else key) or node.source)  # type: ignore[arg-type]
    return result


def _old_arguments(node: ConfigDict, kind: str) -> None:
    """Renames and turns the arguments of a 2.x transform in place."""
    if kind in REPLACED:
        raise UnsupportedConfig(
            f"the 2.x transform {kind!r} is not supported{at(place_of(node))}\n  3.x has {REPLACED[kind]} for it"
        )
    key = SWAPPED.get(kind, "")
    is_swapped = kind != "RandomCrop" or node.get("crop_type", "absolute") in ("absolute", "relative")
    if is_swapped and isinstance(node.get(key), list | tuple):
        node.put(key, tuple(reversed(node[key])), node.place(key))
    if kind == "RandomShift" and "shift_ratio" in node:
        rename(node, "shift_ratio", "prob")
    if kind == "Pad" and isinstance(node.get("pad_val"), dict) and node["pad_val"].get("masks") == 0:
        node.put("pad_val", {k: v for k, v in node["pad_val"].items() if k != "masks"}, node.place("pad_val"))
    if kind in ("Mosaic", "MixUp", "RandomAffine"):
        if not node.pop("skip_filter", True):
            raise ConfigError(
                f"{kind} with skip_filter=False has no equal in 3.x{at(place_of(node))}\n"
                "  write a FilterAnnotations after it"
            )
        for unused in ("min_bbox_size", "min_area_ratio", "max_aspect_ratio"):
            node.pop(unused, None)
    if kind == "LoadAnnotations":
        # Open Images stores boxes in [0, 1]; its dataset knows that in 3.x.
        node.pop("denorm_bbox", None)
        node.pop("normed_bbox", None)
    if kind == "Albu":
        node.pop("update_pad_shape", None)
