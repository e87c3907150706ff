"""RetinaNet and RPN of both dialects as Specs; the dense stage, which two-stage detectors share."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, at, name_of, place_of, spec
from fastdet.compat.models.backbones import translate_backbone
from fastdet.compat.models.common import (
    ASSIGNERS,
    CLASS_LOSSES,
    CODERS,
    SAMPLERS,
    initial_weights,
    layer_factories,
    options,
    part,
    preprocess,
    suppression,
)
from fastdet.compat.models.necks import translate_neck
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

Translated = tuple[Spec, tuple[Pretrained, ...]]

LEVELWISE = {"GHMC", "GHMR"}  # losses that look at all elements of a level together
DEFAULT_CODER = {"type": "DeltaXYWHBBoxCoder"}
DEFAULT_CLS_LOSS = {"type": "CrossEntropyLoss", "use_sigmoid": True}
DEFAULT_BOX_LOSS = {"type": "SmoothL1Loss", "beta": 1.0 / 9.0}
RETINA_TOWERS: dict[str, Any] = {"num_classes": None, "in_channels": None, "stacked_convs": 4, "feat_channels": 256}
RETINA_ANCHORS = {
    "type": "AnchorGenerator",
    "octave_base_scale": 4,
    "scales_per_octave": 3,
    "ratios": (0.5, 1.0, 2.0),
    "strides": (8, 16, 32, 64, 128),
}
RPN_ANCHORS = {
    "type": "AnchorGenerator",
    "scales": (8, 16, 32),
    "ratios": (0.5, 1.0, 2.0),
    "strides": (4, 8, 16, 32, 64),
}
ANCHORS: dict[str, Any] = {
    "strides": None,
    "ratios": None,
    "scales": None,
    "octave_base_scale": None,
    "scales_per_octave": None,
    "base_sizes": None,
    "scale_major": True,
    "centers": None,
    "center_offset": 0.0,
}


def translate_retinanet(model: Section) -> Translated:
    """A RetinaNet as a SingleStageDetector.

    Raises:
        UnsupportedConfig: another head than RetinaHead, or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    return _retina(model, "RetinaHead", {})


def translate_retina_sepbn(model: Section) -> Translated:
    """A RetinaNet whose levels have norms of their own."""
    return _retina(model, "RetinaSepBNHead", {"num_ins": None})


def translate_free_anchor(model: Section) -> Translated:
    """A RetinaNet whose objects have bags of anchors: another criterion, no assignment."""
    model.take("train_cfg")  # of the RetinaNet that the config is made from: bags need no settings there
    head = model.take("bbox_head")
    expect(head, "bbox_head", "FreeAnchorRetinaHead")
    section = Section(head, "FreeAnchorRetinaHead")
    section.take("type")
    values = options(section, RETINA_TOWERS) | layer_factories(section)
    loss_bbox = part(section.node.get("loss_bbox", DEFAULT_BOX_LOSS), CLASS_LOSSES, "loss_bbox")
    if loss_bbox.type not in ("L1Loss", "SmoothL1Loss"):
        raise section.unsupported("boxes are matched by deltas", "use L1Loss or SmoothL1Loss", "loss_bbox")
    section.only("reg_decoded_bbox", False)
    settings = options(section, {"pre_anchor_topk": 50, "bbox_thr": 0.6, "gamma": 2.0, "alpha": 0.5})
    stage = anchor_stage(section, None, model.take("test_cfg"), RETINA_ANCHORS)
    values |= stage.pop("head")
    stage |= {
        "assigner": Spec.of("NoAssigner"),
        "criterion": spec("BagCriterion", {"loss_bbox": loss_bbox} | settings, head),
        "padding_counts": True,
    }
    weights = initial_weights(section, "bbox_head")
    section.finish()
    return single_stage(model, spec("RetinaHead", values, head), spec("DirectStage", stage, head), weights)


def _retina(model: Section, name: str, more: Mapping[str, Any]) -> Translated:
    """A RetinaNet by the name of its head, which has `more` arguments."""
    head = model.take("bbox_head")
    expect(head, "bbox_head", name)
    section = Section(head, name)
    section.take("type")
    values = options(section, {**RETINA_TOWERS, **more}) | layer_factories(section)
    stage = anchor_stage(section, model.take("train_cfg"), model.take("test_cfg"), RETINA_ANCHORS)
    values |= stage.pop("head")
    weights = initial_weights(section, "bbox_head")
    section.finish()
    return single_stage(model, spec(name, values, head), spec("DenseStage", stage, head), weights)


def translate_rpn(
    node: Any, train: Any, train_proposals: Any, test: Any, module: str = "rpn_head"
) -> tuple[Spec, Spec, tuple[Pretrained, ...]]:
    """Head, stage and weights of region proposals.

    Args:
        node: the `rpn_head` dict.
        train: `train_cfg.rpn`; None for a detector that is not trained.
        train_proposals: `train_cfg.rpn_proposal`; None: as in the test.
        test: `test_cfg.rpn`.
        module: the head's name in the detector.
    """
    expect(node, "rpn_head", "RPNHead")
    section = Section(node, "RPNHead")
    section.take("type")
    section.only("num_classes", 1)
    values = options(section, {"in_channels": None, "feat_channels": 256, "num_convs": 1})
    stage = anchor_stage(section, train, test, RPN_ANCHORS, proposals=True)
    values |= stage.pop("head")
    if train_proposals is not None:
        proposals = dense_postprocess(train_proposals, "train_cfg.rpn_proposal", uses_sigmoid(node), proposals=True)
        if proposals != stage["postprocess"]:
            stage["train_postprocess"] = proposals
    weights = initial_weights(section, module)
    section.finish()
    return spec("RPNHead", values, node), spec("DenseStage", stage, node), weights


def single_stage(model: Section, head: Spec, dense: Spec, weights: tuple[Pretrained, ...]) -> Translated:
    """A SingleStageDetector with the backbone, neck and preprocessing of the model, all keys of which are taken."""
    backbone, backbone_weights = translate_backbone(model.take("backbone"))
    neck, neck_weights = translate_neck(model)
    arguments: dict[str, Any] = {"preprocess": preprocess(model, resizes=True), "backbone": backbone}
    if neck is not None:
        arguments["neck"] = neck
    arguments |= {"bbox_head": head, "dense": dense}
    everything = (*initial_weights(model, ""), *backbone_weights, *neck_weights, *weights)
    model.finish()
    return spec("SingleStageDetector", arguments, model.node), everything


def anchor_stage(
    head: Section,
    train: Any,
    test: Any,
    default_anchors: Mapping[str, Any],
    *,
    proposals: bool = False,
    default_box_loss: Mapping[str, Any] = DEFAULT_BOX_LOSS,
) -> dict[str, Any]:
    """Arguments of the DenseStage; under "head", those that the head shares with it."""
    priors, num_anchors = anchors(head.take("anchor_generator", default_anchors))
    cls_loss, box_loss = head.take("loss_cls", DEFAULT_CLS_LOSS), head.take("loss_bbox", default_box_loss)
    use_sigmoid = uses_sigmoid({"loss_cls": cls_loss})
    name = "test_cfg.rpn" if proposals else "test_cfg"
    stage: dict[str, Any] = {
        "head": {"num_anchors": num_anchors} | ({} if use_sigmoid else {"background_class": True}),
        "priors": priors,
        "coder": part(head.take("bbox_coder", DEFAULT_CODER), CODERS, "bbox_coder"),
        "postprocess": dense_postprocess(test, name, use_sigmoid, proposals=proposals),
    }
    decoded = head.flag("reg_decoded_bbox")
    if train is None:
        return stage
    section = Section(train, "train_cfg.rpn" if proposals else "train_cfg")
    stage["assigner"] = part(section.take("assigner"), ASSIGNERS, "assigner")
    stage["sampler"] = part(section.take("sampler") or {"type": "PseudoSampler"}, SAMPLERS, "sampler")
    border, pos_weight = section.number("allowed_border", 0), section.number("pos_weight", -1)
    section.skip("debug")
    section.finish()
    if border >= 0:
        stage["allowed_border"] = border
    criterion: dict[str, Any] = {
        "loss_cls": part(cls_loss, CLASS_LOSSES, "loss_cls"),
        "loss_bbox": part(box_loss, CLASS_LOSSES, "loss_bbox"),
    }
    if proposals:
        criterion |= {"class_agnostic": True, "prefix": "rpn_"}
    if pos_weight > 0:
        criterion["pos_weight"] = pos_weight
    if decoded:
        criterion["reg_decoded_bbox"] = True
    if LEVELWISE & {loss.type for loss in (criterion["loss_cls"], criterion["loss_bbox"])}:
        criterion["levelwise"] = True
    stage["criterion"] = spec("AnchorCriterion", criterion, head.node)
    return stage


def dense_postprocess(node: Any, name: str, use_sigmoid: bool, *, proposals: bool = False) -> Spec:
    """The Spec of `test_cfg`: DensePostprocess, or ProposalPostprocess."""
    if node is None:
        raise ConfigError(f"the model needs {name}: it says how predictions become detections")
    section = Section(node, name)
    values: dict[str, Any] = {
        "max_per_img": section.whole("max_per_img"),
        "nms_pre": section.whole("nms_pre", -1),
        "min_bbox_size": section.number("min_bbox_size", -1),
    }
    if values["max_per_img"] is None:
        raise ConfigError(f"{name} needs max_per_img{at(section.place())}")
    if not proposals:
        values["score_thr"] = section.number("score_thr", 0)
    nms = Section(section.take("nms"), f"{name}.nms")
    if proposals:
        nms.only("type", "nms")
        nms.only("class_agnostic", False)
        values["iou_threshold"] = nms.number("iou_threshold")
    else:
        values |= suppression(nms)
        if nms.flag("class_agnostic"):
            values["class_agnostic"] = True
    nms.skip("split_thr")
    nms.finish()
    if not use_sigmoid:
        values["use_sigmoid"] = False
    section.finish()
    return spec("ProposalPostprocess" if proposals else "DensePostprocess", values, node)


def anchors(node: Any) -> tuple[Spec, int]:
    """The generator's Spec and the anchors a cell.

    Raises:
        UnsupportedConfig: another generator.
    """
    expect(node, "anchor_generator", "AnchorGenerator", "LegacyAnchorGenerator")
    section = Section(node, name_of(node))
    section.take("type")
    values = options(section, ANCHORS)
    section.only("use_box_type", False)
    section.finish()
    scales = values.get("scales_per_octave") if "scales" not in values else len(values["scales"])
    if not scales or "ratios" not in values:
        raise ConfigError(
            f"{section.name} needs strides, ratios, and scales or octave_base_scale with scales_per_octave"
            f"{at(section.place())}"
        )
    if section.name == "LegacyAnchorGenerator":
        values["legacy"] = True
    return spec("AnchorGenerator", values, node), scales * len(values["ratios"])


def uses_sigmoid(head: Mapping[str, Any]) -> bool:
    """Whether the head's class loss works without a background channel."""
    loss = head.get("loss_cls", DEFAULT_CLS_LOSS)
    return bool(loss.get("use_sigmoid", name_of(loss) == "FocalLoss"))


def expect(node: Any, role: str, *names: str) -> None:
    """Raises UnsupportedConfig unless the node's type is one that fastdet runs in this role."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"{role} must be a dict with a type, not {node!r}")
    if name_of(node) not in names:
        raise UnsupportedConfig(
            f"{role} {name_of(node)!r} is not supported{at(place_of(node, 'type'))}\n"
            f"  supported here: {', '.join(names)}"
        )
