"""3.x transforms as Specs: defaults left out, so that written and omitted ones are equal; arguments checked."""

from collections.abc import Mapping
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError

from .dialect import Section, at, dict_list, name_of, place_of, spec, spec_of, without
from .v2_pipeline import FORMATTING

REQUIRED = object()

_RESIZE = {"clip_object_border": True, "backend": "cv2", "interpolation": "bilinear"}
_LOAD = {"imdecode_backend": "cv2"}
_MOSAIC = {
    "img_scale": (640, 640), "center_ratio_range": (0.5, 1.5), "bbox_clip_border": True, "pad_val": 114.0, "prob": 1.0,
}  # fmt: skip
_MIXUP = {
    "img_scale": (640, 640), "ratio_range": (0.5, 1.5), "flip_ratio": 0.5, "pad_val": 114.0, "max_iters": 15,
    "bbox_clip_border": True,
}  # fmt: skip

# Arguments and defaults of MMDetection's transforms. `keep_ratio` is written always: 2.x and 3.x differ in its default.
TRANSFORMS: dict[str, dict[str, Any]] = {
    "LoadImageFromFile": {"to_float32": False, "color_type": "color", "ignore_empty": False, **_LOAD},
    "LoadAnnotations": {
        "with_bbox": True, "with_label": True, "with_mask": False, "with_seg": False, "with_keypoints": False,
        "poly2mask": True, "box_type": "hbox", "reduce_zero_label": False, "ignore_index": 255, **_LOAD,
    },
    "Resize": {"scale": None, "scale_factor": None, "keep_ratio": REQUIRED, **_RESIZE},
    "FixScaleResize": {"scale": None, "scale_factor": None, "keep_ratio": REQUIRED, **_RESIZE},
    "RandomResize": {
        "scale": REQUIRED, "ratio_range": None, "resize_type": "Resize", "keep_ratio": REQUIRED, **_RESIZE,
    },
    "RandomChoiceResize": {"scales": REQUIRED, "resize_type": "Resize", "keep_ratio": REQUIRED, **_RESIZE},
    "RandomFlip": {"prob": REQUIRED, "direction": "horizontal", "swap_seg_labels": None},
    "Pad": {
        "size": None, "size_divisor": None, "pad_to_square": False, "pad_val": {"img": 0, "seg": 255},
        "padding_mode": "constant",
    },
    "Normalize": {"mean": REQUIRED, "std": REQUIRED, "to_rgb": True},
    "RandomCrop": {
        "crop_size": REQUIRED, "crop_type": "absolute", "allow_negative_crop": False, "recompute_bbox": False,
        "bbox_clip_border": True,
    },
    "PhotoMetricDistortion": {
        "brightness_delta": 32, "contrast_range": (0.5, 1.5), "saturation_range": (0.5, 1.5), "hue_delta": 18,
    },
    "FilterAnnotations": {
        "min_gt_bbox_wh": (1, 1), "min_gt_mask_area": 1, "by_box": True, "by_mask": False, "keep_empty": True,
    },
    "Expand": {"mean": (0, 0, 0), "to_rgb": True, "ratio_range": (1, 4), "seg_ignore_label": None, "prob": 0.5},
    "MinIoURandomCrop": {
        "min_ious": (0.1, 0.3, 0.5, 0.7, 0.9), "min_crop_size": 0.3, "bbox_clip_border": True,
    },
    "Mosaic": _MOSAIC,
    "CachedMosaic": {**_MOSAIC, "max_cached_images": 40, "random_pop": True},
    "MixUp": _MIXUP,
    "CachedMixUp": {**_MIXUP, "max_cached_images": 20, "random_pop": True, "prob": 1.0},
    "RandomAffine": {
        "max_rotate_degree": 10.0, "max_translate_ratio": 0.1, "scaling_ratio_range": (0.5, 1.5),
        "max_shear_degree": 2.0, "border": (0, 0), "border_val": (114, 114, 114), "bbox_clip_border": True,
    },
    "YOLOXHSVRandomAug": {"hue_delta": 5, "saturation_delta": 30, "value_delta": 30},
    "CopyPaste": {
        "max_num_pasted": 100, "bbox_occluded_thr": 10, "mask_occluded_thr": 300, "selected": True,
        "paste_by_box": False,
    },
    "LoadProposals": {"num_max_proposals": None},
}  # fmt: skip
# What a missing argument means although the Spec always holds it.
IMPLIED: dict[str, dict[str, Any]] = {
    "Resize": {"keep_ratio": False},
    "FixScaleResize": {"keep_ratio": False},
    "RandomResize": {"keep_ratio": False},
    "RandomChoiceResize": {"keep_ratio": False},
}
# They take further arguments for the transform that `resize_type` names.
FORWARDING = frozenset({"RandomResize", "RandomChoiceResize"})
# A test pipeline of these alone needs no annotations: metrics read them from the dataset's records.
WITHOUT_ANNOTATIONS = frozenset(
    {"LoadImageFromFile", "Resize", "FixScaleResize", "RandomResize", "RandomChoiceResize", "RandomFlip", "Pad",
     "Normalize", "FixShapeResize", "LoadProposals"}
)  # fmt: skip


def transforms(pipeline: Any, name: str, *, training: bool) -> tuple[Spec, ...]:
    """The Specs of a 3.x pipeline.

    Transforms that fastdet has no table of keep all their arguments. Formatting is left out, and so is the loading
    of annotations at the end of a test pipeline.

    Raises:
        ConfigError: an unknown or missing argument, or a pipeline that is no list of dicts.
    """
    result: list[Spec] = []
    for node in dict_list(pipeline, name):
        if name_of(node) == "ProposalBroadcaster":
            # Proposals follow every transform here, so that nothing needs to be wrapped.
            section = Section(node, "ProposalBroadcaster")
            section.skip("type")
            result += transforms(section.take("transforms", []), "ProposalBroadcaster.transforms", training=True)
            section.finish()
        elif name_of(node) not in FORMATTING:
            result.append(transform(node))
    if not training and all(s.type in WITHOUT_ANNOTATIONS or s.type == "LoadAnnotations" for s in result):
        result = [s for s in result if s.type != "LoadAnnotations"]
    return tuple(result)


def transform(node: ConfigDict) -> Spec:
    """The Spec of one 3.x transform, arguments equal to their defaults left out."""
    kind = name_of(node)
    section = Section(node, kind)
    section.local_files()
    if kind not in TRANSFORMS:
        return spec(kind, {k: _nested(v) for k, v in section.left().items() if k != "type"}, node)
    section.skip("type")
    defaults = TRANSFORMS[kind]
    values: dict[str, Any] = {}
    for key in defaults:
        if key in section:
            values[key] = section.take(key)
        elif key in IMPLIED.get(kind, {}):
            values[key] = IMPLIED[kind][key]
        section.take(key)
    if kind in FORWARDING and values.get("resize_type", "Resize") != "Resize":
        values.update({k: section.take(k) for k in section.left()})
    section.finish()
    for key, default in defaults.items():
        if default is REQUIRED and key not in values:
            raise ConfigError(f"{kind} needs the argument {key!r}{at(place_of(node))}")
    if kind == "Pad" and isinstance(values.get("pad_val"), int | float):
        values["pad_val"] = {"img": values["pad_val"], "seg": 255}
    if kind == "RandomFlip" and isinstance(values.get("direction"), list | tuple) and len(values["direction"]) == 1:
        values["direction"] = values["direction"][0]
    return spec(kind, without(values, defaults), node)


def _nested(value: Any) -> Any:
    """Transforms inside a transform's arguments, by the same rules."""
    if isinstance(value, ConfigDict) and isinstance(value.get("type"), str):
        return transform(value) if name_of(value) in TRANSFORMS else spec_of(value)
    if isinstance(value, Mapping):
        return {k: _nested(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_nested(v) for v in value if not (isinstance(v, ConfigDict) and v.get("type") in FORMATTING))
    return value
