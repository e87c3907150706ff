"""FoveaBox of both dialects as Specs."""

from typing import Any

from fastdet.compat.dialect import Section, spec
from fastdet.compat.models.common import CLASS_LOSSES, initial_weights, layer_factories, options, part
from fastdet.compat.models.dense import Translated, dense_postprocess, expect, single_stage, uses_sigmoid
from fastdet.compat.models.dense_direct import FOCAL, TOWERS
from fastdet.registry import Spec

SCALE_RANGES = ((8, 32), (16, 64), (32, 128), (64, 256), (128, 512))
EDGES = (16, 32, 64, 128, 256)


def translate_fovea(model: Section) -> Translated:
    """A FOVEA as a SingleStageDetector of a FoveaHead.

    Raises:
        UnsupportedConfig: another head than FoveaHead, or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    head = model.take("bbox_head")
    expect(head, "bbox_head", "FoveaHead")
    section = Section(head, "FoveaHead")
    section.take("type")
    strides = section.take("strides", (4, 8, 16, 32, 64))
    values = options(section, TOWERS | {"with_deform": False, "deform_groups": 4}) | layer_factories(section)
    bias = section.take("conv_bias", "auto")
    if bias != "auto":
        values["conv_bias"] = bias
    if section.flag("dcn_on_last_conv"):
        values["last_conv"] = Spec.of("DCNv2")
    loss_cls = section.take("loss_cls", FOCAL)
    if not uses_sigmoid({"loss_cls": loss_cls}):
        raise section.unsupported("classes over a softmax are not supported", "write use_sigmoid=True", "loss_cls")
    criterion = {
        "loss_cls": part(loss_cls, CLASS_LOSSES, "loss_cls"),
        "loss_bbox": part(section.take("loss_bbox", {"type": "SmoothL1Loss"}), CLASS_LOSSES, "loss_bbox"),
    }
    assigner = {"strides": strides, "scale_ranges": section.take("scale_ranges", SCALE_RANGES)}
    sigma = section.number("sigma", 0.4)
    model.skip("train_cfg")  # FoveaBox trains in one way
    stage: dict[str, Any] = {
        "priors": _squares(strides, section.take("base_edge_list", EDGES)),
        "coder": Spec.of("ExponentialBBoxCoder"),
        "postprocess": dense_postprocess(model.take("test_cfg"), "test_cfg", True),
        "assigner": spec("FoveaAssigner", assigner | ({} if sigma == 0.4 else {"sigma": sigma}), head),
        "criterion": spec("PlainCriterion", criterion, head),
        "padding_counts": True,
    }
    section.skip("bbox_coder")  # has one of its own
    weights = initial_weights(section, "bbox_head")
    section.finish()
    return single_stage(model, spec("FoveaHead", values, head), spec("DirectStage", stage, head), weights)


def _squares(strides: Any, edges: Any) -> Spec:
    """The Spec of squares around the cells' centres, of an edge of each level."""
    centers = [(stride / 2, stride / 2) for stride in strides]
    return Spec.of("AnchorGenerator", strides=strides, ratios=(1.0,), scales=(1.0,), base_sizes=edges, centers=centers)
