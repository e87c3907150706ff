"""The procedure of the second stage: losses, `train_cfg.rcnn` and `test_cfg.rcnn`."""

from typing import Any

from fastdet.compat.dialect import Section, at, spec
from fastdet.compat.models.common import ASSIGNERS, CLASS_LOSSES, SAMPLERS, part, suppression
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError

ROI_SAMPLERS = SAMPLERS | {
    "OHEMSampler": {"num": None, "pos_fraction": None, "neg_pos_ub": -1, "add_gt_as_proposals": True},
    "CombinedSampler": SAMPLERS["RandomSampler"] | {"pos_sampler": None, "neg_sampler": None},
}
ROI_CODER = {"type": "DeltaXYWHBBoxCoder", "target_stds": (0.1, 0.1, 0.2, 0.2)}


def criterion(section: Section) -> Spec:
    """The RoICriterion of a box head."""
    cls_loss = section.take("loss_cls", {"type": "CrossEntropyLoss"})
    box_loss = section.take("loss_bbox", {"type": "SmoothL1Loss", "beta": 1.0})
    has_boxes = section.node.get("with_reg", True)
    found: dict[str, Any] = {
        "loss_cls": part(cls_loss, CLASS_LOSSES, "loss_cls"),
        "loss_bbox": part(box_loss, CLASS_LOSSES, "loss_bbox") if has_boxes else None,
    }
    decoded = {"reg_decoded_bbox": True} if section.flag("reg_decoded_bbox") else {}
    return spec("RoICriterion", found | decoded, section.node)


def training(node: Any, criterion: Spec, loss_mask: Spec | None, loss_iou: Spec | None = None) -> dict[str, Any]:
    """The stage's parts that `train_cfg.rcnn` describes; none without it."""
    if node is None:
        return {}
    section = Section(node, "train_cfg.rcnn")
    sampler = _sampler(section)
    pos_weight = section.number("pos_weight", -1)
    if pos_weight > 0:
        criterion = criterion.replace(pos_weight=pos_weight)
    stage = {
        "assigner": part(section.take("assigner"), ASSIGNERS, "assigner"),
        "sampler": sampler,
        "criterion": criterion,
    }
    mask_size = section.whole("mask_size")
    threshold = section.number("mask_thr_binary", 0.5)  # of a mask's score
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
        if loss_iou is not None:
            scoring = {} if threshold == 0.5 else {"mask_thr_binary": threshold}
            stage["mask_iou_criterion"] = spec("MaskIoUCriterion", {"loss_iou": loss_iou} | scoring | size, node)
    return stage


def _sampler(section: Section) -> Spec:
    sampler = part(section.take("sampler"), ROI_SAMPLERS, "sampler")
    if sampler.type not in ("RandomSampler", "OHEMSampler", "CombinedSampler"):
        raise section.unsupported(
            f"sampler {sampler.type} is not supported", "use RandomSampler, OHEMSampler or CombinedSampler", "sampler"
        )
    for side in ("pos_sampler", "neg_sampler"):
        one = sampler.args.get(side)
        if isinstance(one, Spec) and one.type == "RandomSampler":  # what None stands for
            sampler = sampler.replace(**{side: None})
    return sampler


def has_objectness(criterion: Spec) -> bool:
    """Whether the class loss of a box head wants scores of object and background beside those of the classes."""
    return bool(criterion.args["loss_cls"].type == "SeesawLoss")


def testing(node: Any, criterion: Spec) -> dict[str, Any]:
    """The stage's parts that `test_cfg.rcnn` describes, for a box head with that criterion."""
    if node is None:
        raise ConfigError("the model needs test_cfg.rcnn: it says how predictions become detections")
    section = Section(node, "test_cfg.rcnn")
    nms = Section(section.take("nms"), "test_cfg.rcnn.nms")
    values = {
        "score_thr": section.number("score_thr"),
        **suppression(nms),
        "max_per_img": section.whole("max_per_img"),
    }
    nms.only("class_agnostic", False)
    nms.skip("split_thr")
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise ConfigError(f"test_cfg.rcnn needs {' and '.join(missing)}{at(section.place())}")
    nms.finish()
    threshold = section.number("mask_thr_binary", 0.5)
    section.finish()
    if has_objectness(criterion):
        values["objectness"] = True
    stage: dict[str, Any] = {"postprocess": spec("RoIPostprocess", values, node)}
    return stage | ({} if threshold == 0.5 else {"mask_thr_binary": threshold})
