"""Faster R-CNN and Mask R-CNN of both dialects as Specs."""

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
)
from fastdet.compat.models.dense import Translated, translate_rpn
from fastdet.compat.models.necks import translate_neck
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

Weights = tuple[Pretrained, ...]

COUNTS = {
    "num_shared_convs": 0,
    "num_shared_fcs": 0,
    "num_cls_convs": 0,
    "num_cls_fcs": 0,
    "num_reg_convs": 0,
    "num_reg_fcs": 0,
}
WIDTHS = {"conv_out_channels": 256, "fc_out_channels": 1024}
# What each of MMDetection's box heads fixes, and what it lets one choose, in terms of ConvFCBBoxHead.
BBOX_HEADS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "BBoxHead": ({}, {}),
    "ConvFCBBoxHead": ({}, COUNTS | WIDTHS),
    "Shared2FCBBoxHead": ({"num_shared_fcs": 2}, WIDTHS),
    "Shared4Conv1FCBBoxHead": ({"num_shared_convs": 4, "num_shared_fcs": 1}, WIDTHS),
}
BBOX_HEAD: dict[str, Any] = {
    "num_classes": 80,
    "in_channels": 256,
    "roi_feat_size": 7,
    "reg_class_agnostic": False,
    "with_avg_pool": False,
}
MASK_HEAD: dict[str, Any] = {
    "num_classes": 80,
    "in_channels": 256,
    "num_convs": 4,
    "conv_kernel_size": 3,
    "conv_out_channels": 256,
    "class_agnostic": False,
}
RES_LAYER: dict[str, Any] = {
    "depth": None,
    "stage": 3,
    "stride": 2,
    "dilation": 1,
    "style": "pytorch",
    "norm_eval": True,
}
ROI_CODER = {"type": "DeltaXYWHBBoxCoder", "target_stds": (0.1, 0.1, 0.2, 0.2)}


def translate_two_stage(model: Section) -> Translated:
    """A Faster R-CNN or Mask R-CNN as a TwoStageDetector.

    Raises:
        UnsupportedConfig: heads or settings that fastdet does not run.
        ConfigError: an argument that a part does not have, or lacks.
    """
    train, test = model.take("train_cfg"), Section(model.take("test_cfg"), "test_cfg")
    training = Section({} if train is None else train, "train_cfg")
    rpn_head, rpn, rpn_weights = translate_rpn(
        model.take("rpn_head"), training.take("rpn"), training.take("rpn_proposal"), test.take("rpn")
    )
    roi_head, roi, roi_weights = _roi(model.take("roi_head"), training.take("rcnn"), test.take("rcnn"))
    training.finish()
    test.finish()
    backbone, backbone_weights = translate_backbone(model.take("backbone"))
    neck, neck_weights = translate_neck(model)
    arguments: dict[str, Any] = {"preprocess": preprocess(model), "backbone": backbone}
    if neck is not None:
        arguments["neck"] = neck
    arguments |= {"rpn_head": rpn_head, "rpn": rpn, "roi_head": roi_head, "roi": roi}
    everything = (*initial_weights(model, ""), *backbone_weights, *neck_weights, *rpn_weights, *roi_weights)
    model.finish()
    return spec("TwoStageDetector", arguments, model.node), everything


def _roi(node: Any, train: Any, test: Any) -> tuple[Spec, Spec, Weights]:
    """Head, stage and weights of the second stage."""
    section = _section(node, "roi_head", "StandardRoIHead")
    weights = initial_weights(section, "roi_head")
    box = _section(section.take("bbox_head"), "bbox_head", *BBOX_HEADS)
    head: dict[str, Any] = {
        "bbox_roi_extractor": _extractor(section.take("bbox_roi_extractor"), "bbox_roi_extractor"),
        "bbox_head": _bbox_head(box),
    }
    criterion, coder = _criterion(box), part(box.take("bbox_coder", ROI_CODER), CODERS, "bbox_coder")
    weights += initial_weights(box, "roi_head.bbox_head")
    box.finish()

    shared, extractor, mask_node = (section.take(k) for k in ("shared_head", "mask_roi_extractor", "mask_head"))
    if shared is not None:
        head["shared_head"], shared_weights = _shared_head(shared)
        weights += shared_weights
    loss_mask = None
    if mask_node is not None:
        mask = _section(mask_node, "mask_head", "FCNMaskHead")
        head["mask_head"] = _mask_head(mask)
        if extractor is not None:
            head["mask_roi_extractor"] = _extractor(extractor, "mask_roi_extractor")
        loss_mask = part(
            mask.take("loss_mask", {"type": "CrossEntropyLoss", "use_mask": True}), CLASS_LOSSES, "loss_mask"
        )
        weights += initial_weights(mask, "roi_head.mask_head")
        mask.finish()
    section.finish()
    stage = {"coder": coder, **_testing(test), **_training(train, criterion, loss_mask)}
    return spec("StandardRoIHead", head, node), spec("RoIStage", stage, node), weights


def _extractor(node: Any, role: str) -> Spec:
    section = _section(node, role, "SingleRoIExtractor")
    layer = _section(section.take("roi_layer"), f"{role}.roi_layer", "RoIAlign")
    values = options(layer, {"output_size": None, "sampling_ratio": 0, "aligned": True})
    layer.only("pool_mode", "avg")
    layer.skip("use_torchvision")
    layer.finish()
    values |= options(section, {"featmap_strides": None, "finest_scale": 56})
    section.only("init_cfg", None)
    section.skip("out_channels")  # the features say it
    section.finish()
    return spec("SingleRoIExtractor", values, node)


def _bbox_head(section: Section) -> Spec:
    """The head's parameters; what the section holds of losses and coder stays in it."""
    fixed, free = BBOX_HEADS[section.name]
    values = fixed | options(section, BBOX_HEAD | free)
    if free:
        values |= layer_factories(section)
    for predictor in ("reg_predictor_cfg", "cls_predictor_cfg"):
        section.only(predictor, {"type": "Linear"})
    section.only("with_cls", True)
    section.only("with_reg", True)
    section.only("predict_box_type", "hbox")
    return spec("ConvFCBBoxHead", values, section.node)


def _criterion(section: Section) -> dict[str, Any]:
    """The RoICriterion's arguments of a box head."""
    cls_loss = section.take("loss_cls", {"type": "CrossEntropyLoss"})
    box_loss = section.take("loss_bbox", {"type": "SmoothL1Loss", "beta": 1.0})
    found: dict[str, Any] = {
        "loss_cls": part(cls_loss, CLASS_LOSSES, "loss_cls"),
        "loss_bbox": part(box_loss, CLASS_LOSSES, "loss_bbox"),
    }
    return found | ({"reg_decoded_bbox": True} if section.flag("reg_decoded_bbox") else {})


def _mask_head(section: Section) -> Spec:
    values = options(section, MASK_HEAD)
    values |= layer_factories(section)
    section.skip("roi_feat_size")  # the extractor says it
    section.only("predictor_cfg", {"type": "Conv"})
    upsample = Section(section.take("upsample_cfg", {"type": "deconv", "scale_factor": 2}), "upsample_cfg")
    upsample.only("type", "deconv", "nearest", "bilinear", None)
    method, scale = upsample.node.get("type"), upsample.whole("scale_factor")
    upsample.finish()
    if method is not None and scale is None:
        raise ConfigError(f"upsample_cfg of {section.name} needs scale_factor{at(upsample.place())}")
    if method != "deconv":
        values["upsample"] = method
    if scale not in (None, 2):
        values["scale_factor"] = scale
    return spec("FCNMaskHead", values, section.node)


def _shared_head(node: Any) -> tuple[Spec, Weights]:
    section = _section(node, "shared_head", "ResLayer")
    weights = initial_weights(section, "roi_head.shared_head")
    values = options(section, RES_LAYER) | layer_factories(section, {"type": "BN"})
    section.only("with_cp", False)
    section.only("dcn", None)
    section.only("pretrained", None)
    section.finish()
    return spec("ResLayer", values, node), weights


def _training(node: Any, criterion: dict[str, Any], loss_mask: Spec | None) -> dict[str, Any]:
    """The stage's parts that `train_cfg.rcnn` describes; none without it."""
    if node is None:
        return {}
    section = Section(node, "train_cfg.rcnn")
    sampler = part(section.take("sampler"), SAMPLERS, "sampler")
    if sampler.type == "PseudoSampler":
        raise section.unsupported(
            "PseudoSampler is not supported", "use RandomSampler: it fixes the number of RoIs", "sampler"
        )
    pos_weight = section.number("pos_weight", -1)
    if pos_weight > 0:
        criterion = criterion | {"pos_weight": pos_weight}
    stage = {
        "assigner": part(section.take("assigner"), ASSIGNERS, "assigner"),
        "sampler": sampler,
        "criterion": spec("RoICriterion", criterion, node),
    }
    mask_size = section.whole("mask_size")
    section.only("soft_mask_target", False)
    section.skip("debug")
    section.finish()
    if loss_mask is not None:
        if mask_size is None:
            raise ConfigError(
                f"train_cfg.rcnn needs mask_size, the side of the mask head's output{at(section.place())}"
            )
        size = {} if mask_size == 28 else {"mask_size": mask_size}
        stage["mask_criterion"] = spec("MaskCriterion", {"loss_mask": loss_mask} | size, node)
    return stage


def _testing(node: Any) -> dict[str, Any]:
    """The stage's parts that `test_cfg.rcnn` describes."""
    if node is None:
        raise ConfigError("the model needs test_cfg.rcnn: it says how predictions become detections")
    section = Section(node, "test_cfg.rcnn")
    nms = Section(section.take("nms"), "test_cfg.rcnn.nms")
    nms.only("type", "nms")
    nms.only("class_agnostic", False)
    nms.skip("split_thr")
    values = {
        "score_thr": section.number("score_thr"),
        "iou_threshold": nms.number("iou_threshold"),
        "max_per_img": section.whole("max_per_img"),
    }
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise ConfigError(f"test_cfg.rcnn needs {' and '.join(missing)}{at(section.place())}")
    nms.finish()
    threshold = section.number("mask_thr_binary", 0.5)
    section.finish()
    stage: dict[str, Any] = {"postprocess": spec("RoIPostprocess", values, node)}
    return stage | ({} if threshold == 0.5 else {"mask_thr_binary": threshold})


def _section(node: Any, role: str, *supported: str) -> Section:
    """The node without its type, which must be one of those that fastdet runs in this role."""
    if not isinstance(node, Mapping) or "type" not in node:
        raise ConfigError(f"{role} must be a dict with a type, not {node!r}{at(place_of(node))}")
    name = name_of(node)
    if name not in supported:
        raise UnsupportedConfig(
            f"{role} {name!r} is not supported{at(place_of(node, 'type'))}\n  supported here: {', '.join(supported)}"
        )
    section = Section(node, name)
    section.take("type")
    return section
