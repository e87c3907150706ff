"""FCOS, ATSS, PAA and GFL of both dialects as Specs: heads whose priors all answer."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, at, name_of, place_of, spec
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
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

FOCAL = {"type": "FocalLoss", "use_sigmoid": True}
BINARY = {"type": "CrossEntropyLoss", "use_sigmoid": True}
GROUP_NORM = {"type": "GN", "num_groups": 32}
TOWERS = {"num_classes": None, "in_channels": None, "stacked_convs": 4, "feat_channels": 256}
REGRESS_RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))


def translate_fcos(model: Section) -> Translated:
    """An FCOS as a SingleStageDetector of a TowerHead at points.

    Raises:
        UnsupportedConfig: another head than FCOSHead, or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    head = model.take("bbox_head")
    expect(head, "bbox_head", "FCOSHead")
    section = _section(head)
    strides = section.take("strides", (4, 8, 16, 32, 64))
    in_strides, on_reg = section.flag("norm_on_bbox"), section.flag("centerness_on_reg")
    values = options(section, TOWERS) | layer_factories(section, GROUP_NORM)
    values |= {"num_levels": len(strides), "prefix": "conv", "positive": "relu" if in_strides else "exp"}
    values["quality_from"] = "reg" if on_reg else "cls"
    bias = section.take("conv_bias", "auto")
    if bias != "auto":
        values["conv_bias"] = bias
    if section.flag("dcn_on_last_conv"):
        values["last_conv"] = Spec.of("DCNv2")
    section.only("cls_predictor_cfg", None)
    coder = part(section.take("bbox_coder", {"type": "DistancePointBBoxCoder"}), CODERS, "bbox_coder")
    radius = section.number("center_sample_radius", 1.5)
    assigner: dict[str, Any] = {"regress_ranges": section.take("regress_ranges", REGRESS_RANGES)}
    if section.flag("center_sampling"):
        assigner["center_radius"] = radius
    criterion = _losses(section, loss_cls=FOCAL, loss_bbox={"type": "IoULoss"})
    criterion["loss_centerness"] = binary_loss(section.take("loss_centerness", BINARY), "loss_centerness")
    model.skip("train_cfg")  # FCOS trains in one way; configs of 2.x have settings there that nothing reads
    stage = {
        "priors": points(strides, 0.5),
        "coder": coder.replace(in_strides=True) if in_strides else coder,
        "postprocess": dense_postprocess(model.take("test_cfg"), "test_cfg", True),
        "assigner": spec("RegressRangeAssigner", assigner, head),
        "criterion": spec("CenternessCriterion", criterion | {"at_least": "one a batch", "min_centerness": 1e-6}, head),
        "padding_counts": True,
    }
    return _finish(model, section, values, stage)


def translate_atss(model: Section) -> Translated:
    """An ATSS as a SingleStageDetector of a TowerHead at anchors."""
    return _at_anchors(model, "ATSSHead")


def translate_paa(model: Section) -> Translated:
    """A PAA: an ATSS whose losses separate the positives from candidates by overlap, and whose detections vote."""
    return _at_anchors(model, "PAAHead")


def _at_anchors(model: Section, name: str) -> Translated:
    head = model.take("bbox_head")
    expect(head, "bbox_head", name)
    section = _section(head)
    probabilistic = name == "PAAHead"
    priors, num_anchors = anchors(section.take("anchor_generator"))
    values = options(section, TOWERS | {"pred_kernel_size": 3}) | layer_factories(section, GROUP_NORM)
    values |= {"num_levels": len(priors.args["strides"]), "prefix": "atss", "num_anchors": num_anchors}
    values["quality_from"] = "reg"
    section.only("reg_decoded_bbox", True)
    criterion = _losses(section, loss_cls=FOCAL, loss_bbox={"type": "GIoULoss"})
    quality = binary_loss(section.take("loss_centerness", BINARY), "loss_centerness")
    if probabilistic:
        criterion |= {"loss_iou": quality} | options(section, {"topk": 9})
        section.only("covariance_type", "diag", "full", "spherical")  # one number has one variance
        postprocess = _voting(model.take("test_cfg"), section.flag("score_voting", True))
    else:
        criterion["loss_centerness"] = quality
        postprocess = dense_postprocess(model.take("test_cfg"), "test_cfg", True)
    kind = "ProbabilisticCriterion" if probabilistic else "CenternessCriterion"
    stage = {
        "priors": priors,
        "coder": part(section.take("bbox_coder", DEFAULT_CODER), CODERS, "bbox_coder"),
        "postprocess": postprocess,
        **direct_training(model.take("train_cfg"), spec(kind, criterion, head)),
    }
    return _finish(model, section, values, stage)


def _voting(node: Any, score_voting: bool) -> Spec:
    """The Spec of PAA's `test_cfg`."""
    plain = dense_postprocess(node, "test_cfg", True)
    if "soft_nms" in plain.args:
        raise UnsupportedConfig(
            f"PAAHead with soft_nms is not supported{at(place_of(node, 'nms'))}\n  write type='nms'"
        )
    kept = {key: plain.args[key] for key in ("max_per_img", "nms_pre", "score_thr", "iou_threshold")}
    return spec("VotingPostprocess", kept | ({} if score_voting else {"score_voting": False}), node)


def translate_gfl(model: Section) -> Translated:
    """A GFL as a SingleStageDetector of a TowerHead whose boxes are distributions."""
    head = model.take("bbox_head")
    expect(head, "bbox_head", "GFLHead")
    section = _section(head)
    priors, num_anchors = anchors(section.take("anchor_generator"))
    cells = priors.args.get("octave_base_scale") or priors.args["scales"][0]
    square = num_anchors == 1 and tuple(priors.args["ratios"]) == (1.0,) and "base_sizes" not in priors.args
    if not square:
        raise section.unsupported("GFL needs one square anchor a cell", "use ratios=[1.0] and one scale")
    bins = section.whole("reg_max", 16)
    values = options(section, TOWERS) | layer_factories(section, GROUP_NORM)
    values |= {"num_levels": len(priors.args["strides"]), "prefix": "gfl", "box_channels": 4 * (bins + 1)}
    section.skip("reg_decoded_bbox")  # distances are decoded always
    criterion = _losses(section, loss_cls={"type": "QualityFocalLoss"}, loss_bbox={"type": "GIoULoss"})
    distribution = section.take("loss_dfl", {"type": "DistributionFocalLoss", "loss_weight": 0.25})
    criterion["loss_dfl"] = part(distribution, CLASS_LOSSES, "loss_dfl")
    coder = part(section.take("bbox_coder", {"type": "DistancePointBBoxCoder"}), CODERS, "bbox_coder")
    stage = {
        "priors": priors,
        "coder": Spec.of("DistributionBBoxCoder", reg_max=bins, cells=cells, **coder.args),
        "postprocess": dense_postprocess(model.take("test_cfg"), "test_cfg", True),
        **direct_training(model.take("train_cfg"), spec("DistributionCriterion", criterion, head)),
    }
    return _finish(model, section, values, stage)


def direct_training(train: Any, criterion: Spec) -> dict[str, Any]:
    """Assigner, criterion and border of a DirectStage from `train_cfg`; nothing without one."""
    if train is None:
        return {}
    section = Section(train, "train_cfg")
    assigner = part(section.take("assigner"), ASSIGNERS, "assigner")
    if assigner.type == "MaxIoUAssigner":  # of boxes; the other assigners look at more
        assigner = Spec.of("PriorAssigner", assigner=assigner)
    stage: dict[str, Any] = {"assigner": assigner, "criterion": criterion}
    section.only("sampler", None, {"type": "PseudoSampler"})
    section.only("pos_weight", -1)
    section.skip("debug")
    border = section.number("allowed_border", -1)
    if border >= 0:
        stage["allowed_border"] = border
    section.finish()
    return stage


def points(strides: Any, offset: float) -> Spec:
    """The Spec of points, which are cells as boxes: their centres (offset 0.5) are what heads look at."""
    return Spec.of("AnchorGenerator", strides=strides, ratios=(1.0,), scales=(1.0,), center_offset=offset)


def binary_loss(node: Any, role: str) -> Spec:
    """A CrossEntropyLoss with a sigmoid, of a target between 0 and 1.

    Raises:
        UnsupportedConfig: another loss.
        ConfigError: arguments that it does not have.
    """
    expect(node, role, "CrossEntropyLoss")
    section = Section(node, role)
    section.take("type")
    if not section.flag("use_sigmoid"):
        raise section.unsupported("a softmax over one channel is not supported", "write use_sigmoid=True")
    values = options(section, {"reduction": "mean", "loss_weight": 1.0})
    section.finish()
    return spec("BinaryCrossEntropyLoss", values, node)


def _section(head: Mapping[str, Any]) -> Section:
    section = Section(head, name_of(head))
    section.take("type")
    return section


def _losses(section: Section, **defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The Specs of losses under their names."""
    return {name: part(section.take(name, node), CLASS_LOSSES, name) for name, node in defaults.items()}


def _finish(model: Section, section: Section, values: dict[str, Any], stage: dict[str, Any]) -> Translated:
    if values.get("num_classes") is None:
        raise ConfigError(f"{section.name} needs num_classes")
    weights = initial_weights(section, "bbox_head")
    section.finish()
    dense = spec("DirectStage", stage, section.node)
    return single_stage(model, spec("TowerHead", values, section.node), dense, weights)
