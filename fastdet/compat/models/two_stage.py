"""Two-stage detectors of both dialects as Specs."""

from collections.abc import Callable, Mapping
from typing import Any

from fastdet.compat.dialect import Section, at, spec
from fastdet.compat.models.backbones import translate_backbone
from fastdet.compat.models.by_head import translate_first_stage
from fastdet.compat.models.common import CLASS_LOSSES, CODERS, initial_weights, part, preprocess
from fastdet.compat.models.dense import Translated
from fastdet.compat.models.necks import translate_neck
from fastdet.compat.models.roi_heads import (
    BBOX_HEADS,
    Weights,
    bbox_head,
    extractor,
    grid_head,
    mask_head,
    mask_iou_head,
    part_section,
    semantic_head,
    shared_head,
)
from fastdet.compat.models.roi_stage import ROI_CODER, criterion, has_objectness, testing, training
from fastdet.compat.models.sabl import sabl_box_head
from fastdet.config.configdict import ConfigDict
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError

DEFAULT_MASK_LOSS = {"type": "CrossEntropyLoss", "use_mask": True}
BOX_HEADS = (*BBOX_HEADS, "SABLHead")
RoITranslation = tuple[Spec, Spec, Weights]
"""Head, stage and weights of a second stage."""


def translate_two_stage(model: Section) -> Translated:
    """A detector with a region proposal network and a second stage as a TwoStageDetector.

    Raises:
        UnsupportedConfig: heads or settings that fastdet does not run.
        ConfigError: an argument that a part does not have, or lacks.
    """
    train, test = model.take("train_cfg"), Section(model.take("test_cfg"), "test_cfg")
    settings = Section({} if train is None else train, "train_cfg")
    rpn_head, rpn, rpn_weights = translate_first_stage(
        model.take("rpn_head"), settings.take("rpn"), settings.take("rpn_proposal"), test.take("rpn")
    )
    roi_head, roi, roi_weights = translate_roi(model.take("roi_head"), settings.take("rcnn"), test.take("rcnn"))
    settings.finish()
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


def translate_fast_rcnn(model: Section) -> Translated:
    """A detector whose proposals come with the images.

    Raises:
        UnsupportedConfig: heads or settings that fastdet does not run.
        ConfigError: an argument that a part does not have, or lacks.
    """
    train, test = model.take("train_cfg"), Section(model.take("test_cfg"), "test_cfg")
    settings = Section({} if train is None else train, "train_cfg")
    roi_head, roi, roi_weights = translate_roi(model.take("roi_head"), settings.take("rcnn"), test.take("rcnn"))
    settings.skip("rpn", "rpn_proposal")  # of a base config that has a first stage
    test.skip("rpn")
    model.only("rpn_head", None)
    settings.finish()
    test.finish()
    backbone, backbone_weights = translate_backbone(model.take("backbone"))
    neck, neck_weights = translate_neck(model)
    arguments: dict[str, Any] = {"preprocess": preprocess(model), "backbone": backbone}
    arguments |= {} if neck is None else {"neck": neck}
    arguments |= {"roi_head": roi_head, "roi": roi}
    everything = (*initial_weights(model, ""), *backbone_weights, *neck_weights, *roi_weights)
    model.finish()
    return spec("FastRCNN", arguments, model.node), everything


def translate_roi(node: Any, train: Any, test: Any) -> RoITranslation:
    """The second stage of a `roi_head`, with `train_cfg.rcnn` and `test_cfg.rcnn`."""
    section = part_section(node, "roi_head", *ROI_HEADS)
    return ROI_HEADS[section.name](section, train, test)


def _standard(section: Section, train: Any, test: Any) -> RoITranslation:
    head, stage, weights = _standard_parts(section, train, test)
    section.finish()
    return spec("StandardRoIHead", head, section.node), spec("RoIStage", stage, section.node), weights


def _grid(section: Section, train: Any, test: Any) -> RoITranslation:
    """Grid R-CNN: a standard head, and points of a grid for the boxes."""
    section.only("mask_head", None)
    branch, loss, weights = grid_head(section.take("grid_head"))
    pooling = section.take("grid_roi_extractor")
    grid: dict[str, Any] = {}
    if train is not None:
        settings, train = Section(train, "train_cfg.rcnn"), ConfigDict(train)
        radius, number = settings.whole("pos_radius"), settings.whole("max_num_grid", 192)
        if radius is None:
            raise ConfigError(f"train_cfg.rcnn needs pos_radius{at(settings.place())}")
        grid["grid_criterion"] = spec("GridCriterion", {"loss_grid": loss, "pos_radius": radius}, settings.node)
        grid |= {} if number == 192 else {"max_num_grid": number}
        for key in ("pos_radius", "max_num_grid"):
            train.pop(key, None)
    head, stage, others = _standard_parts(section, train, test)
    head["grid_head"] = branch
    if pooling is not None:
        head["grid_roi_extractor"] = extractor(pooling, "grid_roi_extractor")
    section.finish()
    grid["boxes"] = spec("RoIStage", stage, section.node)
    return spec("StandardRoIHead", head, section.node), spec("GridStage", grid, section.node), weights + others


def _dynamic(section: Section, train: Any, test: Any) -> RoITranslation:
    """Dynamic R-CNN: a standard stage whose thresholds follow the training."""
    section.only("mask_head", None)
    if train is None:
        return _standard(section, train, test)
    settings = Section(train.get("dynamic_rcnn"), "train_cfg.rcnn.dynamic_rcnn")
    values = {key: settings.whole(key) for key in ("iou_topk", "beta_topk", "update_iter_interval")}
    values |= {key: settings.number(key) for key in ("initial_iou", "initial_beta")}
    settings.finish()
    missing = [key for key, value in values.items() if value is None]
    if missing:
        raise ConfigError(f"{settings.name} needs {' and '.join(missing)}{at(settings.place())}")
    others = ConfigDict(train)
    others.pop("dynamic_rcnn")
    head, stage, weights = _standard_parts(section, others, test)
    section.finish()
    criterion = stage["criterion"].args
    if criterion["loss_bbox"].type != "SmoothL1Loss" or "reg_decoded_bbox" in criterion:
        raise section.unsupported("the bend of the box loss follows the training", "use SmoothL1Loss of deltas")
    values["boxes"] = spec("RoIStage", stage, section.node)
    return spec("StandardRoIHead", head, section.node), spec("DynamicStage", values, section.node), weights


def _standard_parts(section: Section, train: Any, test: Any) -> tuple[dict[str, Any], dict[str, Any], Weights]:
    """The arguments of the head and of the stage, and their weights."""
    weights = initial_weights(section, "roi_head")
    double = section.name == "DoubleHeadRoIHead"
    box = part_section(section.take("bbox_head"), "bbox_head", *(("DoubleConvFCBBoxHead",) if double else BOX_HEADS))
    head: dict[str, Any] = {
        "bbox_roi_extractor": extractor(section.take("bbox_roi_extractor"), "bbox_roi_extractor"),
    }
    head["bbox_head"], losses, coder, box_weights = _box(box, "roi_head.bbox_head")
    weights += box_weights
    if double:
        factor = section.number("reg_roi_scale_factor")
        if factor is None:
            raise ConfigError(f"{section.name} needs reg_roi_scale_factor{at(section.place())}")
        head["reg_roi_scale_factor"] = factor
    shared, pooling, mask_node = (section.take(k) for k in ("shared_head", "mask_roi_extractor", "mask_head"))
    if shared is not None:
        head["shared_head"], shared_weights = shared_head(shared)
        weights += shared_weights
    loss_mask = None
    if mask_node is not None:
        mask = part_section(mask_node, "mask_head", "FCNMaskHead")
        head["mask_head"], loss_mask, mask_weights = _mask(mask, "roi_head.mask_head")
        weights += mask_weights
        if pooling is not None:
            head["mask_roi_extractor"] = extractor(pooling, "mask_roi_extractor")
    loss_iou = None
    if section.name == "MaskScoringRoIHead":
        head["mask_iou_head"], loss_iou, iou_weights = mask_iou_head(section.take("mask_iou_head"))
        weights += iou_weights
    return head, {"coder": coder, **testing(test, losses), **training(train, losses, loss_mask, loss_iou)}, weights


def _cascade(section: Section, train: Any, test: Any) -> RoITranslation:
    head, steps, weights = _steps(section, train, test, ("FCNMaskHead",))
    section.finish()
    return spec("CascadeRoIHead", head, section.node), spec("CascadeStage", steps, section.node), weights


def _hybrid(section: Section, train: Any, test: Any) -> RoITranslation:
    """Hybrid Task Cascade, with or without a semantic branch."""
    head, steps, weights = _steps(section, train, test, ("FCNMaskHead", "HTCMaskHead"))
    if section.flag("interleaved", True):
        steps["interleaved"] = True
    if section.flag("mask_info_flow", True):
        head["mask_info_flow"] = True
    fusion, pooling, branch = (section.take(k) for k in ("semantic_fusion", "semantic_roi_extractor", "semantic_head"))
    if branch is not None:
        head["semantic_head"], steps["semantic_criterion"], branch_weights = semantic_head(branch)
        head["semantic_roi_extractor"] = extractor(pooling, "semantic_roi_extractor")
        weights += branch_weights
        if fusion is not None and tuple(fusion) != ("bbox", "mask"):
            head["semantic_fusion"] = fusion
    section.finish()
    return spec("CascadeRoIHead", head, section.node), spec("CascadeStage", steps, section.node), weights


def _steps(
    section: Section, train: Any, test: Any, mask_heads: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any], Weights]:
    """The arguments of the head and of the stage of a cascade, and its weights."""
    weights = initial_weights(section, "roi_head")
    count = section.whole("num_stages")
    if count is None:
        raise ConfigError(f"{section.name} needs num_stages{at(section.place())}")
    section.only("shared_head", None)
    boxes = _of_each_step(section, "bbox_head", count)
    poolings = _of_each_step(section, "bbox_roi_extractor", count)
    head: dict[str, Any] = {"bbox_roi_extractors": tuple(extractor(n, "bbox_roi_extractor") for n in poolings)}
    translated = [
        _box(part_section(n, "bbox_head", *BOX_HEADS), f"roi_head.bbox_head.{i}") for i, n in enumerate(boxes)
    ]
    head["bbox_heads"] = tuple(one[0] for one in translated)
    weights += tuple(w for one in translated for w in one[3])
    losses_mask: list[Spec | None] = [None] * count
    if section.node.get("mask_head") is not None:
        masks = [
            _mask(part_section(n, "mask_head", *mask_heads), f"roi_head.mask_head.{i}")
            for i, n in enumerate(_of_each_step(section, "mask_head", count))
        ]
        head["mask_heads"] = tuple(one[0] for one in masks)
        losses_mask = [one[1] for one in masks]
        weights += tuple(w for one in masks for w in one[2])
        if section.node.get("mask_roi_extractor") is not None:
            poolings = _of_each_step(section, "mask_roi_extractor", count)
            head["mask_roi_extractors"] = tuple(extractor(n, "mask_roi_extractor") for n in poolings)
    section.skip("mask_head", "mask_roi_extractor")
    trains = [None] * count if train is None else _list(train, count, "train_cfg.rcnn", section)
    steps = tuple(
        spec("RoIStage", {"coder": one[2], **testing(test, one[1]), **training(t, one[1], loss)}, section.node)
        for one, t, loss in zip(translated, trains, losses_mask, strict=True)
    )
    factors = section.take("stage_loss_weights")
    if factors is None or len(factors) != count:
        raise ConfigError(f"{section.name} needs {count} stage_loss_weights{at(section.place('stage_loss_weights'))}")
    return head, {"steps": steps, "step_weights": factors}, weights


def _of_each_step(section: Section, key: str, count: int) -> list[Any]:
    """A part of each step: one dict serves all of them."""
    node = section.take(key)
    return [node] * count if isinstance(node, Mapping) else _list(node, count, key, section)


def _list(node: Any, count: int, name: str, section: Section) -> list[Any]:
    if not isinstance(node, list | tuple) or len(node) != count:
        found = f"a list of {len(node)}" if isinstance(node, list | tuple) else repr(node)
        raise ConfigError(f"{name} must be a list of {count}, one a stage, not {found}{at(section.place())}")
    return list(node)


def _box(section: Section, module: str) -> tuple[Spec, Spec, Spec, Weights]:
    """Head, criterion, coder and weights of a box head."""
    if section.name == "SABLHead":
        head, losses, coder = sabl_box_head(section)
    else:
        head = bbox_head(section)
        losses, coder = criterion(section), part(section.take("bbox_coder", ROI_CODER), CODERS, "bbox_coder")
    if has_objectness(losses):
        wanted, found = losses.args["loss_cls"].args.get("num_classes", 1203), head.args.get("num_classes", 80)
        if wanted != found:
            raise ConfigError(f"{section.name} has {found} classes and its SeesawLoss {wanted}{at(section.place())}")
        head = head.replace(objectness=True)
    weights = initial_weights(section, module)
    section.finish()
    return head, losses, coder, weights


def _mask(section: Section, module: str) -> tuple[Spec, Spec, Weights]:
    """Head, loss and weights of a mask head."""
    head = mask_head(section)
    loss = part(section.take("loss_mask", DEFAULT_MASK_LOSS), CLASS_LOSSES, "loss_mask")
    weights = initial_weights(section, module)
    section.finish()
    return head, loss, weights


ROI_HEADS: dict[str, Callable[[Section, Any, Any], RoITranslation]] = {
    "StandardRoIHead": _standard,
    "CascadeRoIHead": _cascade,
    "DoubleHeadRoIHead": _standard,
    "DynamicRoIHead": _dynamic,
    "GridRoIHead": _grid,
    "HybridTaskCascadeRoIHead": _hybrid,
    "MaskScoringRoIHead": _standard,
}
