"""SSD of both dialects as Specs."""

from typing import Any

from fastdet.compat.dialect import Section, at, name_of, spec, without
from fastdet.compat.models.common import ASSIGNERS, CODERS, SAMPLERS, initial_weights, norm_factory, part
from fastdet.compat.models.dense import (
    DEFAULT_CODER,
    Translated,
    dense_postprocess,
    expect,
    single_stage,
    translate_retinanet,
)
from fastdet.compat.models.layers import activation, convolution, initialiser
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError

ANCHORS: dict[str, Any] = {
    "strides": (8, 16, 32, 64, 100, 300),
    "ratios": ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    "min_sizes": None,
    "max_sizes": None,
    "input_size": 300,
    "basesize_ratio_range": (0.15, 0.9),
}
HEAD: dict[str, Any] = {"num_classes": 80, "in_channels": (512, 1024, 512, 256, 256, 256), "use_depthwise": False}


def translate_single_stage(model: Section) -> Translated:
    """A SingleStageDetector by its head: SSDHead, or RetinaHead.

    Raises:
        UnsupportedConfig: another head, or settings that fastdet does not run.
        ConfigError: an argument that a part does not have.
    """
    head = model.node.get("bbox_head")
    if head is not None and name_of(head) == "RetinaHead":
        return translate_retinanet(model)
    return translate_ssd(model)


def translate_ssd(model: Section) -> Translated:
    """An SSD as a SingleStageDetector with hard negatives."""
    head = model.take("bbox_head")
    expect(head, "bbox_head", "SSDHead")
    section = Section(head, "SSDHead")
    section.take("type")
    priors, cell_priors = _anchors(section.take("anchor_generator", {"type": "SSDAnchorGenerator"}))
    values = {key: section.take(key, default) for key, default in HEAD.items()} | {"num_anchors": cell_priors}
    made = {"norm": norm_factory(section), "conv": convolution(section), "init": initialiser(section)}
    values |= {key: value for key, value in made.items() if value is not None}
    act = activation(section, None)
    if act is not False:
        values["act"] = act
    section.only("stacked_convs", 0)
    section.skip("feat_channels")  # of stacked convolutions
    section.only("reg_decoded_bbox", False)
    coder = part(section.take("bbox_coder", DEFAULT_CODER), CODERS, "bbox_coder")
    stage = {
        "priors": priors,
        "coder": coder,
        "postprocess": dense_postprocess(model.take("test_cfg"), "test_cfg", use_sigmoid=False),
        **_training(model.take("train_cfg")),
    }
    weights = initial_weights(section, "bbox_head")
    section.finish()
    return single_stage(model, spec("SSDHead", values, head), spec("DenseStage", stage, head), weights)


def _anchors(node: Any) -> tuple[Spec, tuple[int, ...]]:
    """The generator's Spec and the anchors a cell of each level."""
    expect(node, "anchor_generator", "SSDAnchorGenerator", "LegacySSDAnchorGenerator")
    section = Section(node, name_of(node))
    section.take("type")
    values = {key: section.take(key, default) for key, default in ANCHORS.items()}
    section.skip("scale_major")  # anchors have one order here
    section.only("use_box_type", False)
    section.finish()
    if (values["min_sizes"] is None) != (values["max_sizes"] is None):
        raise ConfigError(f"SSDAnchorGenerator needs min_sizes and max_sizes, or neither{at(section.place())}")
    if values["min_sizes"] is not None:
        del values["input_size"], values["basesize_ratio_range"]
    if section.name == "LegacySSDAnchorGenerator":
        values["legacy"] = True
    return spec("SSDAnchorGenerator", without(values, {"min_sizes": None, "max_sizes": None}), node), tuple(
        2 + 2 * len(ratios) for ratios in values["ratios"]
    )


def _training(train: Any) -> dict[str, Any]:
    """Assigner, sampler and criterion from `train_cfg`; nothing without one."""
    if train is None:
        return {}
    section = Section(train, "train_cfg")
    stage: dict[str, Any] = {
        "assigner": part(section.take("assigner"), ASSIGNERS, "assigner"),
        "sampler": part(section.take("sampler") or {"type": "PseudoSampler"}, SAMPLERS, "sampler"),
    }
    if stage["sampler"].type != "PseudoSampler":
        raise section.unsupported("SSD looks at all priors", "leave the sampler out", "sampler")
    border = section.number("allowed_border", 0)
    if border >= 0:
        stage["allowed_border"] = border
    section.only("pos_weight", -1)
    section.skip("debug")
    beta, ratio = section.number("smoothl1_beta", 1.0), section.number("neg_pos_ratio", 3)
    section.finish()
    box = Spec.of("SmoothL1Loss", **({} if beta == 1 else {"beta": beta}))
    stage["criterion"] = spec("HardNegativeCriterion", {"loss_bbox": box, "neg_pos_ratio": ratio}, train)
    return stage
