"""A config's `model` dict as a tree of Specs."""

from collections.abc import Callable, Mapping
from typing import Any

from fastdet.compat.dialect import Section, at, name_of, place_of
from fastdet.compat.models.by_head import translate_retina, translate_rpn_detector
from fastdet.compat.models.dense import Translated
from fastdet.compat.models.dense_direct import translate_atss, translate_fcos, translate_gfl, translate_paa
from fastdet.compat.models.dense_fovea import translate_fovea
from fastdet.compat.models.dense_refined import translate_reppoints, translate_vfnet
from fastdet.compat.models.dense_ssd import translate_single_stage
from fastdet.compat.models.dense_tood import translate_tood
from fastdet.compat.models.dense_yolov3 import translate_yolov3
from fastdet.compat.models.dense_yolox import translate_yolox
from fastdet.compat.models.detectron2 import translate_detectron2
from fastdet.compat.models.trident import translate_trident
from fastdet.compat.models.two_stage import translate_fast_rcnn, translate_two_stage
from fastdet.utils.errors import ConfigError, UnsupportedConfig, suggestion

__all__ = ["translate_model"]

TRANSLATORS: dict[str, Callable[[Section], Translated]] = {
    "ATSS": translate_atss,
    "FCOS": translate_fcos,
    "FOVEA": translate_fovea,
    "GFL": translate_gfl,
    "PAA": translate_paa,
    "RepPointsDetector": translate_reppoints,
    "SingleStageDetector": translate_single_stage,
    "TOOD": translate_tood,
    "VFNet": translate_vfnet,
    "YOLOV3": translate_yolov3,
    "YOLOX": translate_yolox,
    "CascadeRCNN": translate_two_stage,
    "Detectron2Wrapper": translate_detectron2,
    "FastRCNN": translate_fast_rcnn,
    "FasterRCNN": translate_two_stage,
    "TridentFasterRCNN": translate_trident,
    "GridRCNN": translate_two_stage,
    "HybridTaskCascade": translate_two_stage,
    "MaskRCNN": translate_two_stage,
    "MaskScoringRCNN": translate_two_stage,
    "RPN": translate_rpn_detector,
    "RetinaNet": translate_retina,
}


def translate_model(model: Mapping[str, Any], *, own_parts: bool = False) -> Translated:
    """The detector's Spec, and the weights that its parts start from.

    Args:
        model: the `model` dict in 3.x keys.
        own_parts: the config imports parts of the user's own, so that a head may be one that is not known here.

    Raises:
        UnsupportedConfig: a detector, component or setting that fastdet does not run; the message names file and line.
        ConfigError: an argument that a part does not have, with near names.
    """
    if not isinstance(model, Mapping) or "type" not in model:
        raise ConfigError(f"model must be a dict with a type{at(place_of(model))}")
    name = name_of(model)
    if name not in TRANSLATORS:
        raise UnsupportedConfig(
            f"detector {name!r} is not supported{at(place_of(model, 'type'))}\n  {suggestion(name, TRANSLATORS)}"
        )
    section = Section(model, name, own_parts=own_parts)
    section.take("type")
    return TRANSLATORS[name](section)
