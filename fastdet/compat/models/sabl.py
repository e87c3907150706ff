"""Side-aware boundary localization of both dialects as Specs: box heads of RoIs, and RetinaNet."""

from typing import Any

from fastdet.compat.dialect import Section, at, name_of, spec
from fastdet.compat.models.common import (
    ASSIGNERS,
    CLASS_LOSSES,
    CODERS,
    SAMPLERS,
    binary_loss,
    initial_weights,
    layer_factories,
    options,
    part,
)
from fastdet.compat.models.dense import (
    RETINA_ANCHORS,
    Translated,
    anchors,
    dense_postprocess,
    expect,
    single_stage,
    uses_sigmoid,
)
from fastdet.config.configdict import ConfigDict
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError

HEAD: dict[str, Any] = {
    "num_classes": None,
    "cls_in_channels": 256,
    "reg_in_channels": 256,
    "roi_feat_size": 7,
    "reg_feat_up_ratio": 2,
    "reg_pre_kernel": 3,
    "reg_post_kernel": 3,
    "reg_pre_num": 2,
    "reg_post_num": 1,
    "cls_out_channels": 1024,
    "reg_offset_out_channels": 256,
    "reg_cls_out_channels": 256,
    "num_cls_fcs": 1,
    "num_reg_fcs": 0,
}
ROI_CODER = {"type": "BucketingBBoxCoder", "num_buckets": 14, "scale_factor": 1.7}
ROI_LOSSES: dict[str, dict[str, Any]] = {
    "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
    "loss_bbox_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
    "loss_bbox_reg": {"type": "SmoothL1Loss", "beta": 0.1, "loss_weight": 1.0},
}
DENSE_CODER = {"type": "BucketingBBoxCoder", "num_buckets": 14, "scale_factor": 3.0}
DENSE_LOSSES: dict[str, dict[str, Any]] = {
    "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0},
    "loss_bbox_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.5},
    "loss_bbox_reg": {"type": "SmoothL1Loss", "beta": 1.0 / 9.0, "loss_weight": 1.5},
}
SQUARES = {"type": "AnchorGenerator", "ratios": (1.0,), "scales": (4,), "strides": RETINA_ANCHORS["strides"]}


def sabl_box_head(section: Section) -> tuple[Spec, Spec, Spec]:
    """Head, criterion and coder of an SABLHead whose type is taken."""
    head = spec("SABLHead", options(section, HEAD) | layer_factories(section), section.node)
    section.only("reg_class_agnostic", True)
    coder = _coder(section, ROI_CODER)
    cells = head.args.get("roi_feat_size", 7) * head.args.get("reg_feat_up_ratio", 2)
    if coder.args["num_buckets"] != cells:
        raise ConfigError(
            f"{section.name}: num_buckets must be roi_feat_size * reg_feat_up_ratio = {cells}, not "
            f"{coder.args['num_buckets']}{at(section.place('bbox_coder'))}"
        )
    return head, spec("BucketRoICriterion", _losses(section, ROI_LOSSES), section.node), coder


def translate_sabl_retinanet(model: Section) -> Translated:
    """A RetinaNet with buckets as a SingleStageDetector."""
    node = model.take("bbox_head")
    expect(node, "bbox_head", "SABLRetinaHead")
    section = Section(node, "SABLRetinaHead")
    section.take("type")
    defaults = {"num_classes": None, "in_channels": None, "stacked_convs": 4, "feat_channels": 256}
    values = options(section, defaults) | layer_factories(section)
    coder = _coder(section, DENSE_CODER)
    values["num_side"] = (coder.args["num_buckets"] + 1) // 2
    approximations = anchors(section.take("approx_anchor_generator", RETINA_ANCHORS))[0]
    squares, number = anchors(section.take("square_anchor_generator", SQUARES))
    if number != 1:
        raise ConfigError(
            f"{section.name} needs one square a cell, not {number}{at(section.place('square_anchor_generator'))}"
        )
    losses = _losses(section, DENSE_LOSSES)
    section.only("reg_decoded_bbox", False)
    use_sigmoid = uses_sigmoid({"loss_cls": node.get("loss_cls", DENSE_LOSSES["loss_cls"])})
    if not use_sigmoid:
        values["background_class"] = True
    stage: dict[str, Any] = {
        "priors": squares,
        "approximations": approximations,
        "coder": coder,
        "postprocess": dense_postprocess(model.take("test_cfg"), "test_cfg", use_sigmoid),
    }
    train = model.take("train_cfg")
    if train is not None:
        stage |= _training(Section(train, "train_cfg"), losses)
    weights = initial_weights(section, "bbox_head")
    section.finish()
    return single_stage(model, spec("SABLRetinaHead", values, node), spec("DenseStage", stage, node), weights)


def approximate_assigner(section: Section, key: str) -> Spec:
    """The assigner of an ApproxMaxIoUAssigner's dict; a stage gives it the approximations.

    Raises:
        UnsupportedConfig: another assigner.
    """
    node = ConfigDict(section.take(key) or {})
    if name_of(node) != "ApproxMaxIoUAssigner":
        raise section.unsupported(f"{key} {name_of(node)!r} is not supported", "use ApproxMaxIoUAssigner", key)
    node.put("type", "MaxIoUAssigner", node.place("type"))
    return part(node, ASSIGNERS, key)


def _training(section: Section, losses: dict[str, Spec]) -> dict[str, Any]:
    sampler = part(section.take("sampler") or {"type": "PseudoSampler"}, SAMPLERS, "sampler")
    border, pos_weight = section.number("allowed_border", 0), section.number("pos_weight", -1)
    stage: dict[str, Any] = {"assigner": approximate_assigner(section, "assigner"), "sampler": sampler}
    section.skip("debug")
    section.finish()
    if border >= 0:
        stage["allowed_border"] = border
    values: dict[str, Any] = losses | ({"pos_weight": pos_weight} if pos_weight > 0 else {})
    stage["criterion"] = spec("BucketAnchorCriterion", values, section.node)
    return stage


def _coder(section: Section, default: dict[str, Any]) -> Spec:
    coder = part(section.take("bbox_coder", default), CODERS, "bbox_coder")
    if coder.type != "BucketingBBoxCoder":
        raise section.unsupported(f"coder {coder.type} is not supported", "use BucketingBBoxCoder", "bbox_coder")
    for key in ("num_buckets", "scale_factor"):
        if key not in coder.args:
            raise ConfigError(f"BucketingBBoxCoder needs {key}{at(section.place('bbox_coder'))}")
    return coder


def _losses(section: Section, defaults: dict[str, dict[str, Any]]) -> dict[str, Spec]:
    """The three losses; that of the buckets takes their labels one by one."""
    bucket = binary_loss(section, "loss_bbox_cls", defaults["loss_bbox_cls"])
    others = {k: part(section.take(k, v), CLASS_LOSSES, k) for k, v in defaults.items() if k != "loss_bbox_cls"}
    return others | {"loss_bbox_cls": bucket}
