"""TOOD of both dialects as Specs."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, spec
from fastdet.compat.models.common import (
    ASSIGNERS,
    CLASS_LOSSES,
    CODERS,
    initial_weights,
    layer_factories,
    options,
    part,
)
from fastdet.compat.models.dense import DEFAULT_CODER, Translated, anchors, dense_postprocess, expect, single_stage
from fastdet.compat.models.dense_direct import GROUP_NORM
from fastdet.registry import Spec

HEAD = {"num_classes": None, "in_channels": None, "stacked_convs": 4, "feat_channels": 256, "num_dcn": 0}


def translate_tood(model: Section) -> Translated:
    """A TOOD as a SingleStageDetector of a TOODHead.

    Raises:
        UnsupportedConfig: another head than TOODHead, or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    head = model.take("bbox_head")
    expect(head, "bbox_head", "TOODHead")
    section = Section(head, "TOODHead")
    section.take("type")
    priors, count = anchors(section.take("anchor_generator"))
    if count != 1 or tuple(priors.args["ratios"]) != (1.0,):
        raise section.unsupported("TOOD has one square anchor a cell", "use ratios=[1.0] and one scale")
    written = {key: section.take(key, default) for key, default in HEAD.items()}
    values = written | layer_factories(section, GROUP_NORM) | {"strides": priors.args["strides"]}
    coder = part(section.take("bbox_coder", DEFAULT_CODER), CODERS, "bbox_coder")
    kind = section.text("anchor_type", "anchor_free")
    if kind == "anchor_based":
        cells = priors.args.get("octave_base_scale") or priors.args["scales"][0]
        values |= {"coder": coder, "cells": cells}
    elif kind != "anchor_free":
        raise section.wrong("anchor_type", kind, "'anchor_free' or 'anchor_based'")
    section.only("reg_decoded_bbox", True)
    section.skip("loss_centerness")  # of the head that TOOD's is made from
    losses = {
        "initial_loss_cls": _of_probabilities(section, "initial_loss_cls", {"type": "FocalLoss", "use_sigmoid": True}),
        "loss_cls": _of_probabilities(section, "loss_cls", {"type": "QualityFocalLoss", "use_sigmoid": True}),
        "loss_bbox": part(section.take("loss_bbox", {"type": "GIoULoss"}), CLASS_LOSSES, "loss_bbox"),
    }
    stage = {
        "priors": priors,
        "coder": Spec.of("AbsoluteBBoxCoder"),
        "postprocess": dense_postprocess(model.take("test_cfg"), "test_cfg", True),
        **_training(model.take("train_cfg"), losses, head),
    }
    weights = initial_weights(section, "bbox_head")
    section.finish()
    return single_stage(model, spec("TOODHead", values, head), spec("DirectStage", stage, head), weights)


def _of_probabilities(section: Section, key: str, default: Mapping[str, Any]) -> Spec:
    """A loss that MMDetection gives probabilities: here the head says their logits."""
    node = dict(section.take(key, default))
    node.pop("activated", None)
    return part(node, CLASS_LOSSES, key)


def _training(train: Any, losses: dict[str, Any], head: Any) -> dict[str, Any]:
    if train is None:
        return {}
    section = Section(train, "train_cfg")
    aligned = part(section.take("assigner"), ASSIGNERS, "assigner")
    expect({"type": aligned.type}, "assigner", "TaskAlignedAssigner")
    criterion = losses | {
        "initial_assigner": part(section.take("initial_assigner"), ASSIGNERS, "initial_assigner"),
        "assigner": aligned.replace(**options(section, {"alpha": 1, "beta": 6})),
        "initial_epoch": section.whole("initial_epoch"),
    }
    section.only("pos_weight", -1)
    section.only("sampler", None, {"type": "PseudoSampler"})
    section.skip("debug")
    border = section.number("allowed_border", -1)
    section.finish()
    stage = {"assigner": Spec.of("NoAssigner"), "criterion": spec("TaskAlignedCriterion", criterion, head)}
    return stage | ({"allowed_border": border} if border >= 0 else {})
