"""RepPoints and VFNet of both dialects as Specs: heads with a first box and a refined one."""

from typing import Any

from fastdet.compat.dialect import Section, spec
from fastdet.compat.models.common import ASSIGNERS, CLASS_LOSSES, initial_weights, layer_factories, options, part
from fastdet.compat.models.dense import (
    Translated,
    anchors,
    dense_postprocess,
    expect,
    single_stage,
    uses_sigmoid,
)
from fastdet.compat.models.dense_direct import GROUP_NORM, REGRESS_RANGES, TOWERS, direct_training, points
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError

HEAD: dict[str, Any] = {
    "num_classes": None,
    "in_channels": None,
    "num_points": 9,
    "stacked_convs": 4,
    "feat_channels": 256,
    "point_feat_channels": 256,
    "gradient_mul": 0.1,
    "point_base_scale": 4,
    "use_grid_points": False,
    "center_init": True,
    "transform_method": "moment",
    "moment_mul": 0.01,
}
FOCAL = {"type": "FocalLoss", "use_sigmoid": True}
SMOOTH = {"type": "SmoothL1Loss", "beta": 1.0 / 9.0}
VFNET_ANCHORS = {
    "type": "AnchorGenerator",
    "ratios": (1.0,),
    "octave_base_scale": 8,
    "scales_per_octave": 1,
    "center_offset": 0.0,
    "strides": (8, 16, 32, 64, 128),
}


def translate_reppoints(model: Section) -> Translated:
    """A RepPointsDetector as a SingleStageDetector of a RepPointsHead at points.

    Raises:
        UnsupportedConfig: another head than RepPointsHead, or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    head = model.take("bbox_head")
    expect(head, "bbox_head", "RepPointsHead")
    section = Section(head, "RepPointsHead")
    section.take("type")
    strides = section.take("point_strides", (8, 16, 32, 64, 128))
    scale = head.get("point_base_scale", 4)
    values = options(section, HEAD) | layer_factories(section)
    loss_cls = section.take("loss_cls", FOCAL)
    if not uses_sigmoid({"loss_cls": loss_cls}):
        raise section.unsupported("classes over a softmax are not supported", "write use_sigmoid=True", "loss_cls")
    losses = {
        "loss_cls": loss_cls,
        "loss_bbox_init": section.take("loss_bbox_init", SMOOTH | {"loss_weight": 0.5}),
        "loss_bbox_refine": section.take("loss_bbox_refine", SMOOTH),
    }
    criterion: dict[str, Any] = {name: part(node, CLASS_LOSSES, name) for name, node in losses.items()}
    if scale != 4:
        criterion["base_scale"] = scale
    stage = {
        "priors": points(strides, 0.0),
        "coder": Spec.of("DistancePointBBoxCoder", in_strides=True),
        "postprocess": dense_postprocess(model.take("test_cfg"), "test_cfg", True),
        **_training(model.take("train_cfg"), scale, criterion, head),
    }
    weights = initial_weights(section, "bbox_head")
    section.finish()
    return single_stage(model, spec("RepPointsHead", values, head), spec("DirectStage", stage, head), weights)


def translate_vfnet(model: Section) -> Translated:
    """A VFNet as a SingleStageDetector of a VFNetHead at square anchors.

    Raises:
        UnsupportedConfig: another head than VFNetHead, or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    head = model.take("bbox_head")
    expect(head, "bbox_head", "VFNetHead")
    section = Section(head, "VFNetHead")
    section.take("type")
    priors, count = anchors(section.take("anchor_generator", VFNET_ANCHORS))
    strides = priors.args["strides"]
    section.skip("strides", "center_sampling", "center_sample_radius", "loss_cls_fl", "reg_decoded_bbox")  # not of ATSS
    if count != 1:
        raise section.unsupported("VFNet has one anchor a cell", "use ratios=[1.0] and one scale", "anchor_generator")
    ends = [end for _, end in section.take("regress_ranges", REGRESS_RANGES)]
    unit = section.text("bbox_norm_type", "reg_denom")
    if unit not in ("reg_denom", "stride"):
        raise section.wrong("bbox_norm_type", unit, "'reg_denom' or 'stride'")
    values = options(section, TOWERS | {"gradient_mul": 0.1}) | layer_factories(section, GROUP_NORM)
    values |= {"strides": strides, "units": strides if unit == "stride" else (*ends[:-1], 2 * ends[-2])}
    bias = section.take("conv_bias", "auto")
    if bias != "auto":
        values["conv_bias"] = bias
    if section.flag("dcn_on_last_conv"):
        values["last_conv"] = Spec.of("DCNv2")
    for key in ("use_vfl", "use_atss", "sync_num_pos"):
        section.only(key, True)
    losses = {
        "loss_cls": section.take("loss_cls", {"type": "VarifocalLoss"}),
        "loss_bbox": section.take("loss_bbox", {"type": "GIoULoss", "loss_weight": 1.5}),
        "loss_bbox_refine": section.take("loss_bbox_refine", {"type": "GIoULoss", "loss_weight": 2.0}),
    }
    expect(losses["loss_cls"], "loss_cls", "VarifocalLoss")
    criterion = {name: part(node, CLASS_LOSSES, name) for name, node in losses.items()}
    stage = {
        "priors": priors,
        "coder": Spec.of("DistancePointBBoxCoder"),
        "postprocess": dense_postprocess(model.take("test_cfg"), "test_cfg", True),
        **direct_training(model.take("train_cfg"), spec("VarifocalCriterion", criterion, head)),
    }
    section.only("bbox_coder", {"type": "DistancePointBBoxCoder"})
    weights = initial_weights(section, "bbox_head")
    section.finish()
    return single_stage(model, spec("VFNetHead", values, head), spec("DirectStage", stage, head), weights)


def _training(train: Any, scale: float, criterion: dict[str, Any], head: Any) -> dict[str, Any]:
    """The two assigners of `train_cfg` and the criterion; nothing without one."""
    if train is None:
        return {}
    section = Section(train, "train_cfg")
    section.only("sampler", None, {"type": "PseudoSampler"})
    first, again = (_assigner(section.take(stage), f"train_cfg.{stage}") for stage in ("init", "refine"))
    section.finish()
    if again.type != "MaxIoUAssigner":
        raise section.unsupported(f"{again.type} cannot assign first boxes", "use MaxIoUAssigner", "refine")
    if first.type == "MaxIoUAssigner":
        first = Spec.of("PriorAssigner", assigner=first, scale=scale)
    return {"assigner": first, "criterion": spec("RefinedPointsCriterion", {"assigner": again} | criterion, head)}


def _assigner(node: Any, name: str) -> Spec:
    if node is None:
        raise ConfigError(f"the model needs {name}: it says which boxes answer for which objects")
    section = Section(node, name)
    found = part(section.take("assigner"), ASSIGNERS, f"{name}.assigner")
    section.only("pos_weight", -1)
    section.skip("debug", "allowed_border")  # every point in the image takes part
    section.finish()
    return found
