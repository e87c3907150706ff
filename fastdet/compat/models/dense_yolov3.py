"""YOLOv3 of both dialects as Specs."""

from typing import Any

from fastdet.compat.dialect import Section, spec
from fastdet.compat.models.common import ASSIGNERS, CLASS_LOSSES, initial_weights, norm_factory, part
from fastdet.compat.models.dense import Translated, dense_postprocess, expect, single_stage
from fastdet.compat.models.dense_direct import binary_loss
from fastdet.compat.models.layers import activation, convolution
from fastdet.registry import Spec

STRIDES = (32, 16, 8)
SIZES = (((116, 90), (156, 198), (373, 326)), ((30, 61), (62, 45), (59, 119)), ((10, 13), (16, 30), (33, 23)))
BINARY = {"type": "CrossEntropyLoss", "use_sigmoid": True}


def translate_yolov3(model: Section) -> Translated:
    """A YOLOV3 as a SingleStageDetector of a YOLOV3Head.

    Raises:
        UnsupportedConfig: another head than YOLOV3Head, or losses or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    head = model.take("bbox_head")
    expect(head, "bbox_head", "YOLOV3Head")
    section = Section(head, "YOLOV3Head")
    section.take("type")
    strides = section.take("featmap_strides", STRIDES)
    sizes = _sizes(section, strides)
    values: dict[str, Any] = {
        "num_classes": section.whole("num_classes"),
        "in_channels": section.take("in_channels"),
        "out_channels": section.take("out_channels", (1024, 512, 256)),
        "strides": strides,
        "norm": norm_factory(section, {"type": "BN", "requires_grad": True}),
        "act": activation(section, {"type": "LeakyReLU", "negative_slope": 0.1}),
        "conv": convolution(section),
    } | ({} if len(sizes[0]) == 3 else {"num_anchors": len(sizes[0])})
    section.only("bbox_coder", {"type": "YOLOBBoxCoder"})
    test = Section(model.take("test_cfg"), "test_cfg")
    confidence = test.number("conf_thr", -1)
    stage: dict[str, Any] = {
        "priors": Spec.of("YOLOAnchorGenerator", strides=strides, base_sizes=sizes),
        "coder": Spec.of("YOLOBBoxCoder"),
        "postprocess": Spec.of(
            "CellPostprocess",
            strides=strides,
            postprocess=dense_postprocess(test.left(), "test_cfg", True),
            conf_thr=confidence,
        ),
        "padding_counts": True,
    }
    criterion = _criterion(section, strides)
    train = model.take("train_cfg")
    if train is not None:
        training = Section(train, "train_cfg")
        stage["assigner"] = part(training.take("assigner"), ASSIGNERS, "assigner").replace(strides=strides)
        stage["criterion"] = criterion
        training.only("sampler", None, {"type": "PseudoSampler"})
        training.finish()
    weights = initial_weights(section, "bbox_head")
    section.finish()
    made = {key: value for key, value in values.items() if value is not None}
    return single_stage(model, spec("YOLOV3Head", made, head), spec("DirectStage", stage, head), weights)


def _sizes(section: Section, strides: Any) -> Any:
    """Widths and heights of each level's anchors."""
    node = section.take("anchor_generator", {"type": "YOLOAnchorGenerator", "base_sizes": SIZES, "strides": STRIDES})
    expect(node, "anchor_generator", "YOLOAnchorGenerator")
    inner = Section(node, "YOLOAnchorGenerator")
    inner.take("type")
    if tuple(inner.take("strides")) != tuple(strides):
        raise section.unsupported("anchors have other strides than the features", "write the same ones", "strides")
    sizes = inner.take("base_sizes")
    inner.only("use_box_type", False)
    inner.finish()
    return sizes


def _criterion(section: Section, strides: Any) -> Spec:
    losses: dict[str, Any] = {
        name: binary_loss(section.take(name, BINARY), name) for name in ("loss_cls", "loss_conf", "loss_xy")
    }
    losses["loss_wh"] = part(section.take("loss_wh", {"type": "MSELoss"}), CLASS_LOSSES, "loss_wh")
    smoother = section.number("one_hot_smoother", 0.0)
    for name, loss in losses.items():
        if loss.args.get("reduction") != "sum":
            raise section.unsupported("YOLOv3 sums its losses", "write reduction='sum'", name)
    more = {"one_hot_smoother": smoother} if smoother else {}
    return spec("CellCriterion", {"strides": strides} | losses | more, section.node)
