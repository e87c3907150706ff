"""Guided anchoring of both dialects as Specs: region proposals, and RetinaNet."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, at, spec
from fastdet.compat.models.common import (
    CLASS_LOSSES,
    CODERS,
    SAMPLERS,
    initial_weights,
    layer_factories,
    options,
    part,
)
from fastdet.compat.models.dense import (
    DEFAULT_CODER,
    Translated,
    anchor_stage,
    anchors,
    dense_postprocess,
    expect,
    single_stage,
    uses_sigmoid,
)
from fastdet.compat.models.sabl import approximate_assigner
from fastdet.config.configdict import ConfigDict
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError

STRIDES = (4, 8, 16, 32, 64)
APPROXIMATIONS = {
    "type": "AnchorGenerator",
    "octave_base_scale": 8,
    "scales_per_octave": 3,
    "ratios": (0.5, 1.0, 2.0),
    "strides": STRIDES,
}
SQUARES = {"type": "AnchorGenerator", "ratios": (1.0,), "scales": (8,), "strides": STRIDES}
LOC_LOSS = {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0}
SHAPE_LOSS = {"type": "BoundedIoULoss", "beta": 0.2, "loss_weight": 1.0}
BOX_LOSS = {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0}
GUIDE_KEYS = ("ga_assigner", "ga_sampler", "center_ratio", "ignore_ratio")


def translate_guided_rpn(
    node: Any, train: Any, train_proposals: Any, test: Any, module: str = "rpn_head"
) -> tuple[Spec, Spec, tuple[Pretrained, ...]]:
    """Head, stage and weights of region proposals from guided anchors; arguments as `translate_rpn`'s."""
    section = Section(node, "GARPNHead")
    section.take("type")
    section.only("num_classes", 1)
    values = options(section, {"in_channels": None, "feat_channels": 256, "deform_groups": 4})
    stage = _stage(section, train, test, proposals=True)
    values |= stage.pop("head")
    if train_proposals is not None:
        proposals = dense_postprocess(train_proposals, "train_cfg.rpn_proposal", uses_sigmoid(node), proposals=True)
        if proposals != stage["postprocess"]:
            stage["train_postprocess"] = proposals
    weights = initial_weights(section, module)
    section.finish()
    return spec("GARPNHead", values, node), spec("GuidedAnchorStage", stage, node), weights


def translate_ga_retinanet(model: Section) -> Translated:
    """A RetinaNet with guided anchors as a SingleStageDetector."""
    head = model.take("bbox_head")
    expect(head, "bbox_head", "GARetinaHead")
    section = Section(head, "GARetinaHead")
    section.take("type")
    defaults = {
        "num_classes": None,
        "in_channels": None,
        "stacked_convs": 4,
        "feat_channels": 256,
        "deform_groups": 4,
    }
    values = options(section, defaults) | layer_factories(section)
    stage = _stage(section, model.take("train_cfg"), model.take("test_cfg"), proposals=False)
    values |= stage.pop("head")
    weights = initial_weights(section, "bbox_head")
    section.finish()
    return single_stage(model, spec("GARetinaHead", values, head), spec("GuidedAnchorStage", stage, head), weights)


def _stage(head: Section, train: Any, test: Any, *, proposals: bool) -> dict[str, Any]:
    """Arguments of the GuidedAnchorStage; under "head", those that the head shares with it."""
    approximations = head.take("approx_anchor_generator", APPROXIMATIONS)
    squares = head.take("square_anchor_generator", SQUARES)
    scale = approximations.get("octave_base_scale")
    if [scale] != list(squares.get("scales", ())) or list(approximations["strides"]) != list(squares["strides"]):
        raise ConfigError(
            f"{head.name}: square_anchor_generator must have the strides of approx_anchor_generator, and its "
            f"octave_base_scale as the one scale{at(head.place('square_anchor_generator'))}"
        )
    guide: dict[str, Any] = {
        "squares": anchors(squares)[0],
        "approximations": anchors(approximations)[0],
        "coder": part(head.take("anchor_coder", DEFAULT_CODER), CODERS, "anchor_coder"),
    }
    guide |= options(head, {"loc_filter_thr": 0.01})
    losses = {
        "loss_loc": part(head.take("loss_loc", LOC_LOSS), CLASS_LOSSES, "loss_loc"),
        "loss_shape": part(head.take("loss_shape", SHAPE_LOSS), CLASS_LOSSES, "loss_shape"),
    }
    others = train
    if train is not None:
        name = "train_cfg.rpn" if proposals else "train_cfg"
        section = Section(train, name)
        guide |= _training(section, losses, scale, proposals)
        others = ConfigDict(train)
        for key in GUIDE_KEYS:
            others.pop(key, None)
    stage = anchor_stage(head, others, test, squares, proposals=proposals, default_box_loss=BOX_LOSS)
    del stage["priors"]  # the squares are the guide's
    del stage["head"]["num_anchors"]
    border = stage.pop("allowed_border", -1)
    if border >= 0:
        guide["allowed_border"] = border
    if not proposals:
        values = {k: v for k, v in stage["postprocess"].args.items() if k != "min_bbox_size"}  # it is not looked at
        stage["postprocess"] = spec("DensePostprocess", values | {"whole_priors": True}, test)
    return {"guide": spec("AnchorGuide", guide, head.node)} | stage


def _training(section: Section, losses: Mapping[str, Any], scale: float, proposals: bool) -> dict[str, Any]:
    """Assigner, sampler and criterion of the guide."""
    assigner = approximate_assigner(section, "ga_assigner")
    criterion = dict(losses) | {"anchor_scale": scale}
    for key in ("center_ratio", "ignore_ratio"):
        criterion[key] = section.number(key)
        if criterion[key] is None:
            raise ConfigError(f"{section.name} needs {key}{at(section.place())}")
    if proposals:
        criterion["prefix"] = "anchor_"
    return {
        "assigner": assigner,
        "sampler": part(section.take("ga_sampler") or {"type": "PseudoSampler"}, SAMPLERS, "ga_sampler"),
        "criterion": spec("GuideCriterion", criterion, section.node),
    }
