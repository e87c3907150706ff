"""Detectors of both dialects whose head's name decides how they are translated."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastdet.compat.dialect import Section, at, name_of, place_of, spec
from fastdet.compat.models.common import initial_weights, layer_factories
from fastdet.compat.models.dense import (
    RETINA_ANCHORS,
    Translated,
    anchor_stage,
    single_stage,
    translate_free_anchor,
    translate_retina_sepbn,
    translate_retinanet,
    translate_rpn,
)
from fastdet.compat.models.guided import translate_ga_retinanet, translate_guided_rpn
from fastdet.compat.models.sabl import translate_sabl_retinanet
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

T = TypeVar("T")
FirstStage = Callable[[Any, Any, Any, Any, str], tuple[Spec, Spec, tuple[Pretrained, ...]]]

FIRST_STAGES: dict[str, FirstStage] = {"GARPNHead": translate_guided_rpn, "RPNHead": translate_rpn}
RETINAS: dict[str, Callable[[Section], Translated]] = {
    "FreeAnchorRetinaHead": translate_free_anchor,
    "GARetinaHead": translate_ga_retinanet,
    "RetinaHead": translate_retinanet,
    "SABLRetinaHead": translate_sabl_retinanet,
    "RetinaSepBNHead": translate_retina_sepbn,
}


def translate_first_stage(
    node: Any, train: Any, train_proposals: Any, test: Any, module: str = "rpn_head"
) -> tuple[Spec, Spec, tuple[Pretrained, ...]]:
    """Head, stage and weights of region proposals; arguments as `translate_rpn`'s.

    Raises:
        UnsupportedConfig: another head, or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    return _by_name(node, "rpn_head", FIRST_STAGES)(node, train, train_proposals, test, module)


def translate_rpn_detector(model: Section) -> Translated:
    """A region proposal network on its own, as a SingleStageDetector whose detections are proposals."""
    train, test = model.take("train_cfg"), model.take("test_cfg")
    head, stage, weights = translate_first_stage(
        model.take("rpn_head"), None if train is None else train.get("rpn"), None, (test or {}).get("rpn"), "bbox_head"
    )
    return single_stage(model, head, stage, weights)


def translate_retina(model: Section) -> Translated:
    """A RetinaNet, with RetinaHead, one of those made from it or the user's own, as a SingleStageDetector."""
    head = model.node.get("bbox_head")
    if model.own_parts and isinstance(head, Mapping) and name_of(head) not in RETINAS:
        return _own_retina(model)
    return _by_name(head, "bbox_head", RETINAS)(model)


def _own_retina(model: Section) -> Translated:
    """A RetinaNet whose head is the user's: anchors, losses and boxes as RetinaHead's, other arguments go to it."""
    head = model.take("bbox_head")
    section = Section(head, name_of(head))
    section.take("type")
    stage = anchor_stage(section, model.take("train_cfg"), model.take("test_cfg"), RETINA_ANCHORS)
    shared = {**layer_factories(section), **stage.pop("head")}
    weights = initial_weights(section, "bbox_head")
    return single_stage(
        model, spec(section.name, {**section.left(), **shared}, head), spec("DenseStage", stage, head), weights
    )


def _by_name(node: Any, role: str, table: Mapping[str, T]) -> T:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{role} must be a dict with a type, not {node!r}")
    name = name_of(node)
    if name not in table:
        raise UnsupportedConfig(
            f"{role} {name!r} is not supported{at(place_of(node, 'type'))}\n  supported here: {', '.join(table)}"
        )
    return table[name]
