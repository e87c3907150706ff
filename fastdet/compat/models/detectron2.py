"""`Detectron2Wrapper` configs: the settings of a Detectron2 detector as a model of our own parts.

The settings are laid over Detectron2's defaults (its config/defaults.py). Faster and Mask R-CNN on an FPN and RetinaNet
are mapped; every other setting is refused.
"""

from collections.abc import Sequence
from typing import Any

from fastdet.compat.dialect import Section, warn
from fastdet.compat.models.dense import Translated, translate_retinanet
from fastdet.compat.models.two_stage import translate_two_stage
from fastdet.config.configdict import adopt

_DETECTIONS = 100  # TEST.DETECTIONS_PER_IMAGE, which a wrapper cannot change
_CHANNELS = [256, 512, 1024, 2048]
_STAGES = ["res2", "res3", "res4", "res5"]
_LEVELS = ["p2", "p3", "p4", "p5", "p6", "p7"]
_STRIDES = [4, 8, 16, 32, 64, 128]
_NEAR = 1e-6  # Relative; sizes are products of roots.


def translate_detectron2(model: Section) -> Translated:
    """The detector that `detector`, or `d2_detector`, describes: Detectron2's MODEL settings.

    Raises:
        UnsupportedConfig: a setting that our parts do not have.
        ConfigError: a setting that is not one of Detectron2's.
    """
    swap = model.flag("bgr_to_rgb") or model.flag("rgb_to_bgr")
    model.only("data_preprocessor", None)
    key = "detector" if "detector" in model else "d2_detector"  # the latter in the release candidates of 3.0
    settings = Section(model.take(key), key)
    model.finish()
    settings.only("keypoint_on", False)
    settings.only("load_proposals", False)
    settings.skip("device")
    kind = settings.text("meta_architecture", "GeneralizedRCNN")
    if kind not in ("GeneralizedRCNN", "RetinaNet"):
        raise settings.unsupported(
            f"meta_architecture {kind!r} is not supported", "supported: GeneralizedRCNN, RetinaNet", "meta_architecture"
        )
    weights = settings.text("weights", "")
    means, stds = settings.take("pixel_mean", [103.53, 116.28, 123.675]), settings.take("pixel_std", [1.0, 1.0, 1.0])
    own: dict[str, Any] = {
        "data_preprocessor": {
            "type": "DetDataPreprocessor", "mean": means, "std": stds, "bgr_to_rgb": swap, "pad_size_divisor": 32,
        },
        "backbone": _backbone(settings, kind),
    }  # fmt: skip
    own |= _retinanet(settings) if kind == "RetinaNet" else _rcnn(settings)
    settings.finish()
    if weights:
        own["init_cfg"] = {"type": "Pretrained", "checkpoint": weights}
    name = {"RetinaNet": "RetinaNet"}.get(kind, "MaskRCNN" if "mask_head" in own.get("roi_head", {}) else "FasterRCNN")
    node = adopt(own, model.place(key))
    return translate_retinanet(Section(node, name)) if kind == "RetinaNet" else translate_two_stage(Section(node, name))


def _backbone(settings: Section, kind: str) -> dict[str, Any]:
    part = _section(settings, "backbone")
    names = {"GeneralizedRCNN": "build_resnet_fpn_backbone", "RetinaNet": "build_retinanet_resnet_fpn_backbone"}
    _must(part, "name", "build_resnet_backbone", names[kind])
    freeze_at = part.whole("freeze_at", 2)
    part.finish()
    resnet = _section(settings, "resnets")
    depth, groups, width = resnet.whole("depth", 50), resnet.whole("num_groups", 1), resnet.whole("width_per_group", 64)
    if depth not in (50, 101, 152):
        raise resnet.unsupported(f"a ResNet of {depth} layers is not supported", "supported: 50, 101, 152", "depth")
    first = 1 if kind == "RetinaNet" else 0
    _must(resnet, "out_features", ["res4"], _STAGES[first:])
    resnet.only("norm", "FrozenBN")
    resnet.only("res5_dilation", 1)
    resnet.only("res2_out_channels", _CHANNELS[0])
    resnet.only("stem_out_channels", 64)
    resnet.only("deform_on_per_stage", [False] * 4)
    resnet.skip("deform_modulated", "deform_num_groups")
    style = "caffe" if resnet.flag("stride_in_1x1", True) else "pytorch"
    resnet.finish()
    common = {
        "depth": depth, "num_stages": 4, "out_indices": (0, 1, 2, 3), "frozen_stages": freeze_at - 1,
        "norm_cfg": {"type": "BN", "requires_grad": False}, "norm_eval": True, "style": style,
    }  # fmt: skip
    if groups == 1 and width == 64:
        return {"type": "ResNet", **common}
    return {"type": "ResNeXt", "groups": groups, "base_width": width, **common}


def _neck(settings: Section, first: int, **more: Any) -> dict[str, Any]:
    part = _section(settings, "fpn")
    _must(part, "in_features", [], _STAGES[first:])
    part.only("norm", "")
    part.only("fuse_type", "sum")
    channels = part.whole("out_channels", 256)
    part.finish()
    levels = {"in_channels": _CHANNELS, "out_channels": channels, "start_level": first, "num_outs": 5}
    return {"type": "FPN", **levels, **more}


def _anchors(settings: Section, first: int) -> dict[str, Any]:
    part = _section(settings, "anchor_generator")
    part.only("name", "DefaultAnchorGenerator")
    part.only("offset", 0.0)
    part.skip("angles")  # of rotated boxes
    sizes, ratios = part.take("sizes", []), part.take("aspect_ratios", [[0.5, 1.0, 2.0]])
    strides = _STRIDES[first : first + 5]
    scales = [[size / stride for size in level] for level, stride in zip(sizes, strides, strict=False)]
    if len(scales) != len(strides) or any(not _alike(level, scales[0]) for level in scales) or len(ratios) != 1:
        raise part.unsupported(
            "anchors other than one list of sizes a level, each level's twice those before, and one list of ratios "
            "are not supported", f"write {len(strides)} lists of sizes, for the strides {strides}", "sizes",
        )  # fmt: skip
    part.finish()
    return {"type": "AnchorGenerator", "scales": scales[0], "ratios": ratios[0], "strides": strides}


def _alike(first: Sequence[float], second: Sequence[float]) -> bool:
    same = len(first) == len(second)
    return same and all(abs(a - b) <= _NEAR * abs(b) for a, b in zip(first, second, strict=True))


def _box_loss(part: Section, beta: str = "smooth_l1_beta", default: float = 0.0, weight: float = 1.0) -> dict[str, Any]:
    """Smooth L1; with a beta of 0 it is L1."""
    part.only("bbox_reg_loss_type", "smooth_l1")
    width = part.number(beta, default)
    loss = {"type": "SmoothL1Loss", "beta": width} if width > 0 else {"type": "L1Loss"}
    return {**loss, "loss_weight": weight}


def _coder(part: Section, default: Sequence[float]) -> dict[str, Any]:
    """Detectron2 multiplies deltas by weights, where standard deviations divide them."""
    weights = part.take("bbox_reg_weights", default)
    return {"type": "DeltaXYWHBBoxCoder", "target_stds": [1.0 / weight for weight in weights]}


def _nms(threshold: float) -> dict[str, Any]:
    return {"type": "nms", "iou_threshold": threshold}


def _retinanet(settings: Section) -> dict[str, Any]:
    settings.skip("mask_on")
    part = _section(settings, "retinanet")
    part.only("in_features", _LEVELS[1:])
    part.only("iou_labels", [0, -1, 1])
    part.only("prior_prob", 0.01)
    part.only("norm", "")
    negative, positive = part.take("iou_thresholds", [0.4, 0.5])
    neck = _neck(settings, 1, add_extra_convs="on_input", relu_before_extra_convs=True)
    focal = {"gamma": part.number("focal_loss_gamma", 2.0), "alpha": part.number("focal_loss_alpha", 0.25)}
    head = {
        "type": "RetinaHead", "num_classes": part.whole("num_classes", 80), "in_channels": neck["out_channels"],
        "feat_channels": neck["out_channels"], "stacked_convs": part.whole("num_convs", 4),
        "anchor_generator": _anchors(settings, 1), "bbox_coder": _coder(part, (1.0, 1.0, 1.0, 1.0)),
        "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, **focal},
        "loss_bbox": _box_loss(part, "smooth_l1_loss_beta", 0.1),
    }  # fmt: skip
    test = {
        "nms_pre": part.whole("topk_candidates_test", 1000), "score_thr": part.number("score_thresh_test", 0.05),
        "nms": _nms(part.number("nms_thresh_test", 0.5)), "max_per_img": _DETECTIONS, "min_bbox_size": 0,
    }  # fmt: skip
    part.finish()
    warn(
        "losses are divided by the number of objects' anchors in the batch, where Detectron2's RetinaNet takes its "
        "moving average", settings.place("retinanet"),
    )  # fmt: skip
    assigner = {"type": "MaxIoUAssigner", "pos_iou_thr": positive, "neg_iou_thr": negative, "min_pos_iou": 0}
    train = {"assigner": assigner, "sampler": {"type": "PseudoSampler"}, "allowed_border": -1, "pos_weight": -1}
    return {"neck": neck, "bbox_head": head, "train_cfg": train, "test_cfg": test}


def _rcnn(settings: Section) -> dict[str, Any]:
    neck = _neck(settings, 0)
    rpn_head, rpn_train, proposals, rpn_test = _rpn(settings, neck["out_channels"])
    rois, boxes = _section(settings, "roi_heads"), _section(settings, "roi_box_head")
    _must(rois, "name", "Res5ROIHeads", "StandardROIHeads")
    _must(rois, "in_features", ["res4"], _LEVELS[:4])
    rois.only("iou_labels", [0, 1])
    (threshold,) = rois.take("iou_thresholds", [0.5])
    classes = rois.whole("num_classes", 80)
    _must(boxes, "name", "", "FastRCNNConvFCHead")
    boxes.only("norm", "")
    for key in ("train_on_pred_boxes", "use_sigmoid_ce", "use_fed_loss"):
        boxes.only(key, False)
    head: dict[str, Any] = {
        "type": "StandardRoIHead",
        "bbox_roi_extractor": _pooling(boxes, 14),
        "bbox_head": {
            "type": "ConvFCBBoxHead", "num_classes": classes, "in_channels": neck["out_channels"],
            "num_shared_convs": boxes.whole("num_conv", 0), "num_shared_fcs": boxes.whole("num_fc", 0),
            "conv_out_channels": boxes.whole("conv_dim", 256), "fc_out_channels": boxes.whole("fc_dim", 1024),
            "reg_class_agnostic": boxes.flag("cls_agnostic_bbox_reg"), "bbox_coder": _coder(boxes, (10, 10, 5, 5)),
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False},
            "loss_bbox": _box_loss(boxes, weight=boxes.number("bbox_reg_loss_weight", 1.0)),
        },
    }  # fmt: skip
    head["bbox_head"]["roi_feat_size"] = head["bbox_roi_extractor"]["roi_layer"]["output_size"]
    rcnn_train: dict[str, Any] = {
        "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": threshold, "neg_iou_thr": threshold,
                     "min_pos_iou": threshold, "match_low_quality": False},
        "sampler": _sampler(rois, 512, 0.25, add_gt_as_proposals=rois.flag("proposal_append_gt", True)),
    }  # fmt: skip
    rcnn_test = {
        "score_thr": rois.number("score_thresh_test", 0.05), "nms": _nms(rois.number("nms_thresh_test", 0.5)),
        "max_per_img": _DETECTIONS,
    }  # fmt: skip
    if settings.flag("mask_on"):
        mask = _section(settings, "roi_mask_head")
        mask.only("name", "MaskRCNNConvUpsampleHead")
        mask.only("norm", "")
        head["mask_roi_extractor"] = _pooling(mask, 14)
        head["mask_head"] = {
            "type": "FCNMaskHead", "num_classes": classes, "in_channels": neck["out_channels"],
            "num_convs": mask.whole("num_conv", 0), "conv_out_channels": mask.whole("conv_dim", 256),
            "class_agnostic": mask.flag("cls_agnostic_mask"),
        }  # fmt: skip
        mask.finish()
        rcnn_train["mask_size"] = 2 * head["mask_roi_extractor"]["roi_layer"]["output_size"]
    else:
        settings.skip("roi_mask_head")
    rois.finish()
    boxes.finish()
    return {
        "neck": neck, "rpn_head": rpn_head, "roi_head": head,
        "train_cfg": {"rpn": rpn_train, "rpn_proposal": proposals, "rcnn": rcnn_train},
        "test_cfg": {"rpn": rpn_test, "rcnn": rcnn_test},
    }  # fmt: skip


def _rpn(settings: Section, channels: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The head, its training, its proposals in training and in tests."""
    generator, rpn = _section(settings, "proposal_generator"), _section(settings, "rpn")
    generator.only("name", "RPN")
    smallest = generator.number("min_size", 0)
    generator.finish()
    rpn.only("head_name", "StandardRPNHead")
    _must(rpn, "in_features", ["res4"], _LEVELS[:5])
    rpn.only("iou_labels", [0, -1, 1])
    rpn.only("boundary_thresh", -1)
    rpn.only("conv_dims", [-1])
    negative, positive = rpn.take("iou_thresholds", [0.3, 0.7])
    weight = rpn.number("loss_weight", 1.0)
    head = {
        "type": "RPNHead", "in_channels": channels, "feat_channels": channels,
        "anchor_generator": _anchors(settings, 0), "bbox_coder": _coder(rpn, (1.0, 1.0, 1.0, 1.0)),
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": weight},
        "loss_bbox": _box_loss(rpn, weight=weight * rpn.number("bbox_reg_loss_weight", 1.0)),
    }  # fmt: skip
    train = {
        "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": positive, "neg_iou_thr": negative, "min_pos_iou": 0},
        "sampler": _sampler(rpn, 256, 0.5, add_gt_as_proposals=False),
        "allowed_border": -1,
        "pos_weight": -1,
    }
    common = {"nms": _nms(rpn.number("nms_thresh", 0.7)), "min_bbox_size": smallest}
    proposals, test = (
        {"nms_pre": rpn.whole(f"pre_nms_topk_{mode}", before), "max_per_img": rpn.whole(f"post_nms_topk_{mode}", after)}
        for mode, before, after in (("train", 12000, 2000), ("test", 6000, 1000))
    )
    rpn.finish()
    return head, train, {**proposals, **common}, {**test, **common}


def _sampler(part: Section, number: int, share: float, *, add_gt_as_proposals: bool) -> dict[str, Any]:
    return {
        "type": "RandomSampler", "num": part.whole("batch_size_per_image", number),
        "pos_fraction": part.number("positive_fraction", share), "neg_pos_ub": -1,
        "add_gt_as_proposals": add_gt_as_proposals,
    }  # fmt: skip


def _pooling(part: Section, size: int) -> dict[str, Any]:
    kind = part.text("pooler_type", "ROIAlignV2")
    if kind not in ("ROIAlignV2", "ROIAlign"):
        raise part.unsupported(f"pooler {kind!r} is not supported", "supported: ROIAlignV2, ROIAlign", "pooler_type")
    layer = {
        "type": "RoIAlign", "output_size": part.whole("pooler_resolution", size),
        "sampling_ratio": part.whole("pooler_sampling_ratio", 0), "aligned": kind == "ROIAlignV2",
    }  # fmt: skip
    return {"type": "SingleRoIExtractor", "roi_layer": layer, "featmap_strides": _STRIDES[:4]}


def _must(part: Section, key: str, default: Any, wanted: Any) -> None:
    """Takes a key of which one value is run, which is not Detectron2's default.

    Raises:
        UnsupportedConfig: another value, or none.
    """
    value = part.take(key, default)
    if value != wanted and (not isinstance(value, tuple) or list(value) != wanted):
        raise part.unsupported(f"{key}={value!r} is not supported", f"supported: {wanted!r}", key)


def _section(settings: Section, key: str) -> Section:
    node = settings.take(key)
    return Section(adopt({}, settings.place()) if node is None else node, f"detector.{key}")
