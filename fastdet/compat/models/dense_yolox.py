"""YOLOX of both dialects as Specs."""

from typing import Any

from fastdet.compat.dialect import Section, spec, spec_of, without
from fastdet.compat.models.common import (
    ASSIGNERS,
    CLASS_LOSSES,
    initial_weights,
    layer_factories,
    options,
    part,
    suppression,
)
from fastdet.compat.models.dense import Translated, expect, single_stage
from fastdet.compat.models.dense_direct import binary_loss, points
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError

NORM = {"type": "BN", "momentum": 0.03, "eps": 0.001}
BINARY = {"type": "CrossEntropyLoss", "use_sigmoid": True, "reduction": "sum"}
BOX = {"type": "IoULoss", "mode": "square", "eps": 1e-16, "reduction": "sum", "loss_weight": 5.0}
L1 = {"type": "L1Loss", "reduction": "sum"}


def translate_yolox(model: Section) -> Translated:
    """A YOLOX as a SingleStageDetector of a YOLOXHead.

    Raises:
        UnsupportedConfig: another head than YOLOXHead, losses that are not sums, or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    head = model.take("bbox_head")
    expect(head, "bbox_head", "YOLOXHead")
    section = Section(head, "YOLOXHead")
    section.take("type")
    strides = section.take("strides", (8, 16, 32))
    sizes = {"num_classes": None, "in_channels": None, "feat_channels": 256, "stacked_convs": 2, "use_depthwise": False}
    values = options(section, sizes) | layer_factories(section, NORM)
    activation = section.take("act_cfg", {"type": "Swish"})
    values |= {"num_levels": len(strides), "act": False if activation is None else spec_of(activation)}
    section.only("dcn_on_last_conv", False)
    section.only("conv_bias", "auto")
    stage: dict[str, Any] = {
        "priors": points(strides, 0.5),
        "coder": Spec.of("CellBBoxCoder"),
        "postprocess": _postprocess(model.take("test_cfg")),
        "padding_counts": True,
    }
    criterion = _criterion(section)
    train = model.take("train_cfg")
    if train is not None:
        training = Section(train, "train_cfg")
        stage["assigner"] = part(training.take("assigner"), ASSIGNERS, "assigner")
        stage["criterion"] = criterion
        training.finish()
    weights = initial_weights(section, "bbox_head")
    section.finish()
    resize = _resize(model)
    detector, weights = single_stage(model, spec("YOLOXHead", values, head), spec("DirectStage", stage, head), weights)
    if resize is not None:
        detector = detector.replace(preprocess=detector.args["preprocess"].replace(resize=resize))
    return detector, weights


def _resize(model: Section) -> Spec | None:
    """What 2.x writes beside the parts and 3.x as a batch augmentation; None without."""
    model.skip("input_size")  # of the first batches: the pipeline makes them
    if not {"random_size_range", "random_size_interval", "size_multiplier"} & set(model.left()):
        return None
    divisor = model.whole("size_multiplier", 32)
    low, high = model.take("random_size_range", (15, 25))
    interval = model.whole("random_size_interval", 10)
    values = {"random_size_range": (low * divisor, high * divisor), "size_divisor": divisor, "interval": interval}
    return spec("BatchSyncRandomResize", without(values, {"size_divisor": 32, "interval": 10}), model.node)


def _criterion(section: Section) -> Spec:
    losses = {
        "loss_cls": binary_loss(section.take("loss_cls", BINARY), "loss_cls"),
        "loss_bbox": part(section.take("loss_bbox", BOX), CLASS_LOSSES, "loss_bbox"),
        "loss_obj": binary_loss(section.take("loss_obj", BINARY), "loss_obj"),
        "loss_l1": part(section.take("loss_l1", L1), CLASS_LOSSES, "loss_l1"),
    }
    for name, loss in losses.items():
        if loss.args.get("reduction") != "sum":
            raise section.unsupported("YOLOX divides sums by the positives", "write reduction='sum'", name)
    return spec("ObjectnessCriterion", losses, section.node)


def _postprocess(node: Any) -> Spec:
    if node is None:
        raise ConfigError("the model needs test_cfg: it says how predictions become detections")
    section = Section(node, "test_cfg")
    values: dict[str, Any] = {"score_thr": section.number("score_thr", 0.0)}
    nms = Section(section.take("nms"), "test_cfg.nms")
    values |= suppression(nms)
    if nms.flag("class_agnostic"):
        values["class_agnostic"] = True
    nms.skip("split_thr")
    nms.finish()
    section.skip("max_per_img")  # MMDetection keeps every detection here
    section.finish()
    return spec("BestClassPostprocess", values, node)
