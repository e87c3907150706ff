"""What the model translators share: options with defaults, layer factories, initial weights, preprocessing."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, at, dict_list, frozen, name_of, place_of, spec, spec_of, without
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

CLASS_LOSSES: dict[str, dict[str, Any]] = {
    "CrossEntropyLoss": {
        "use_sigmoid": False,
        "use_mask": False,
        "reduction": "mean",
        "class_weight": None,
        "ignore_index": None,
        "loss_weight": 1.0,
        "avg_non_ignore": False,
    },
    "FocalLoss": {"use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "reduction": "mean", "loss_weight": 1.0},
    "L1Loss": {"reduction": "mean", "loss_weight": 1.0},
    "MSELoss": {"reduction": "mean", "loss_weight": 1.0},
    "SmoothL1Loss": {"beta": 1.0, "reduction": "mean", "loss_weight": 1.0},
    "IoULoss": {"linear": False, "eps": 1e-6, "reduction": "mean", "loss_weight": 1.0, "mode": "log"},
    "GIoULoss": {"eps": 1e-6, "reduction": "mean", "loss_weight": 1.0},
    "DIoULoss": {"eps": 1e-6, "reduction": "mean", "loss_weight": 1.0},
    "CIoULoss": {"eps": 1e-6, "reduction": "mean", "loss_weight": 1.0},
    "BoundedIoULoss": {"beta": 0.2, "eps": 1e-3, "reduction": "mean", "loss_weight": 1.0},
    "QualityFocalLoss": {"use_sigmoid": True, "beta": 2.0, "reduction": "mean", "loss_weight": 1.0},
    "VarifocalLoss": {
        "use_sigmoid": True,
        "alpha": 0.75,
        "gamma": 2.0,
        "iou_weighted": True,
        "reduction": "mean",
        "loss_weight": 1.0,
    },
    "BalancedL1Loss": {"alpha": 0.5, "gamma": 1.5, "beta": 1.0, "reduction": "mean", "loss_weight": 1.0},
    "GHMC": {"bins": 10, "momentum": 0, "use_sigmoid": True, "loss_weight": 1.0},
    "GHMR": {"mu": 0.02, "bins": 10, "momentum": 0, "loss_weight": 1.0},
    "DistributionFocalLoss": {"reduction": "mean", "loss_weight": 1.0},
    "SeesawLoss": {"p": 0.8, "q": 2.0, "num_classes": 1203, "eps": 1e-2, "reduction": "mean", "loss_weight": 1.0},
}
CODERS: dict[str, dict[str, Any]] = {
    "DeltaXYWHBBoxCoder": {
        "target_means": (0.0, 0.0, 0.0, 0.0),
        "target_stds": (1.0, 1.0, 1.0, 1.0),
        "clip_border": True,
        "add_ctr_clamp": False,
        "ctr_clamp": 32,
    },
    "DistancePointBBoxCoder": {"clip_border": True},
    "BucketingBBoxCoder": {
        "num_buckets": None,
        "scale_factor": None,
        "offset_topk": 2,
        "offset_upperbound": 1.0,
        "cls_ignore_neighbor": True,
        "clip_border": True,
    },
    "LegacyDeltaXYWHBBoxCoder": {
        "target_means": (0.0, 0.0, 0.0, 0.0),
        "target_stds": (1.0, 1.0, 1.0, 1.0),
    },
}
SAMPLERS: dict[str, dict[str, Any]] = {
    "RandomSampler": {"num": None, "pos_fraction": None, "neg_pos_ub": -1, "add_gt_as_proposals": True},
    "PseudoSampler": {},
}
ASSIGNERS: dict[str, dict[str, Any]] = {
    "MaxIoUAssigner": {
        "pos_iou_thr": None,
        "neg_iou_thr": None,
        "min_pos_iou": 0.0,
        "gt_max_assign_all": True,
        "ignore_iof_thr": -1,
        "ignore_wrt_candidates": True,
        "match_low_quality": True,
    },
    "ATSSAssigner": {"topk": None, "ignore_iof_thr": -1},
    "GridAssigner": {"pos_iou_thr": None, "neg_iou_thr": None, "min_pos_iou": 0.0, "gt_max_assign_all": True},
    "TaskAlignedAssigner": {"topk": None},
    "PointAssigner": {"scale": 4, "pos_num": 3},
    "SimOTAAssigner": {"center_radius": 2.5, "candidate_topk": 10, "iou_weight": 3.0, "cls_weight": 1.0},
}
# Keys of these parts that change no result here, or only with the value given.
IDLE_KEYS: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "MaxIoUAssigner": {
        "gpu_assign_thr": None,
        "iou_calculator": ({"type": "BboxOverlaps2D"},),
        "perm_repeat_gt_cfg": (None,),
    },
    "TaskAlignedAssigner": {"iou_calculator": ({"type": "BboxOverlaps2D"},)},
    "GridAssigner": {"iou_calculator": ({"type": "BboxOverlaps2D"},)},
    "ATSSAssigner": {"iou_calculator": ({"type": "BboxOverlaps2D"},), "alpha": (None,)},
    "SimOTAAssigner": {"iou_calculator": ({"type": "BboxOverlaps2D"},)},
    "FocalLoss": {"activated": (False,)},
    "GHMC": {"reduction": ("mean",)},
    "GHMR": {"reduction": ("mean",)},
    "QualityFocalLoss": {"activated": (False,)},
    "SeesawLoss": {"use_sigmoid": (False,), "return_dict": (True,)},
    "DeltaXYWHBBoxCoder": {"use_box_type": (False,)},
    "DistancePointBBoxCoder": {"use_box_type": (False,)},
    "BucketingBBoxCoder": {"use_box_type": (False,)},
    "LegacyDeltaXYWHBBoxCoder": {"use_box_type": (False,)},
}


def _normal(predictor: str) -> tuple[dict[str, Any], ...]:
    """Normal of 0.01, and a first guess of 0.01 for the class predictor."""
    override = {"type": "Normal", "name": predictor, "std": 0.01, "bias_prob": 0.01}
    return ({"type": "Normal", "layer": "Conv2d", "std": 0.01, "override": override},)


SOFT_NMS_THRESHOLD = 0.3  # mmcv.ops.soft_nms's own
SOFT_NMS: dict[str, Any] = {"sigma": 0.5, "min_score": 1e-3, "method": "linear"}

INITIALISATIONS: dict[str, tuple[Any, ...]] = {
    "ResNet": (
        {"type": "Kaiming", "layer": "Conv2d"},
        {"type": "Constant", "val": 1, "layer": ["_BatchNorm", "GroupNorm"]},
    ),
    "FPN": ({"type": "Xavier", "layer": "Conv2d", "distribution": "uniform"},),
    "RPNHead": ({"type": "Normal", "layer": "Conv2d", "std": 0.01},),
    "RetinaHead": _normal("retina_cls"),
    "FCOSHead": _normal("conv_cls"),
    "ATSSHead": _normal("atss_cls"),
    "GFLHead": _normal("gfl_cls"),
    "PAAHead": _normal("atss_cls"),
    "FoveaHead": _normal("conv_cls"),
    "RepPointsHead": _normal("reppoints_cls_out"),
    "VFNetHead": _normal("vfnet_cls"),
    "YOLOXHead": (
        {
            "type": "Kaiming",
            "layer": "Conv2d",
            "a": 5**0.5,
            "distribution": "uniform",
            "mode": "fan_in",
            "nonlinearity": "leaky_relu",
        },
    ),
}


def suppression(nms: Section) -> dict[str, Any]:
    """The arguments of a post-processing that the section of NMS describes: `iou_threshold`, and `soft_nms` or not."""
    nms.only("type", "nms", "soft_nms")
    if nms.node.get("type", "nms") == "nms":
        return {"iou_threshold": nms.number("iou_threshold")}
    nms.only("offset", 0)
    threshold = nms.number("iou_threshold", SOFT_NMS_THRESHOLD)
    return {"iou_threshold": threshold, "soft_nms": spec("SoftNMS", options(nms, SOFT_NMS), nms.node)}


def options(section: Section, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Takes every key of `defaults` from the section; returns the values that differ from theirs."""
    return without({key: section.take(key, default) for key, default in defaults.items()}, defaults)


def part(node: Any, tables: Mapping[str, Mapping[str, Any]], role: str) -> Spec:
    """The Spec of a small part: those of the table are checked, others are carried by name as they are.

    Raises:
        ConfigError: an argument that a part of the table does not have, or a missing type.
    """
    if not isinstance(node, Mapping) or "type" not in node:
        raise ConfigError(f"{role} must be a dict with a type, not {node!r}{at(place_of(node))}")
    name = name_of(node)
    if name not in tables:
        return spec_of(node)
    section = Section(node, name)
    section.take("type")
    values = options(section, tables[name])
    for key, allowed in IDLE_KEYS.get(name, {}).items():
        if allowed is None:
            section.skip(key)
        else:
            section.only(key, *allowed)
    section.finish()
    return spec(name, values, node)


def binary_loss(section: Section, key: str, default: Mapping[str, Any]) -> Spec:
    """The Spec of a binary cross entropy whose targets are numbers of their own, not classes.

    Raises:
        UnsupportedConfig: another loss than CrossEntropyLoss with use_sigmoid=True and a weight.
    """
    loss = part(section.take(key, default), CLASS_LOSSES, key)
    if loss.type != "CrossEntropyLoss" or set(loss.args) - {"loss_weight"} != {"use_sigmoid"}:
        raise section.unsupported(
            f"this {key} is not supported", "use CrossEntropyLoss with use_sigmoid=True and a loss_weight", key
        )
    weight = {name: value for name, value in loss.args.items() if name == "loss_weight"}
    return spec("BinaryCrossEntropyLoss", weight, section.node)


def norm_factory(section: Section, default: Any = None) -> Spec | None:
    """The Spec of `norm_cfg`, None for no norm. Written and omitted defaults are equal."""
    node = section.take("norm_cfg", default)
    if node is None:
        return None
    if not isinstance(node, Mapping) or "type" not in node:
        raise section.wrong("norm_cfg", node, "a dict with a type, or None")
    defaults = {"requires_grad": True, "eps": 1e-5, "momentum": 0.1}
    return spec(name_of(node), without({k: v for k, v in node.items() if k != "type"}, defaults), node)


def conv_factory(section: Section) -> Spec | None:
    """The Spec of `conv_cfg`, None for torch's own convolution."""
    node = section.take("conv_cfg")
    if node is None or (isinstance(node, Mapping) and dict(node) in ({"type": "Conv2d"}, {"type": "Conv"})):
        return None
    return spec_of(node)


def layer_factories(section: Section, norm_default: Any = None) -> dict[str, Spec]:
    """The arguments `norm` and `conv`, as far as the section asks for them."""
    found = {"norm": norm_factory(section, norm_default), "conv": conv_factory(section)}
    return {key: value for key, value in found.items() if value is not None}


def initial_weights(section: Section, module: str) -> tuple[Pretrained, ...]:
    """The weights that `init_cfg` loads into a module (its dotted name in the detector).

    Raises:
        UnsupportedConfig: an initialisation other than the part's own.
    """
    node = section.take("init_cfg")
    if node is None or (isinstance(node, list | tuple) and not node):
        return ()
    if isinstance(node, Mapping) and name_of(node, "Pretrained" if "checkpoint" in node else "") == "Pretrained":
        inner = Section(node, "Pretrained")
        inner.skip("type", "map_location")
        checkpoint, prefix = inner.text("checkpoint"), inner.text("prefix", "")
        inner.finish()
        if not checkpoint:
            raise ConfigError(f"init_cfg of {section.name} needs a checkpoint{at(section.place('init_cfg'))}")
        if prefix and not prefix.endswith("."):
            prefix += "."
        return (Pretrained(module=module, checkpoint=checkpoint, prefix=prefix),)
    own = INITIALISATIONS.get(section.name, ())
    if frozen(node if isinstance(node, list | tuple) else [node]) == frozen(own):
        return ()
    raise section.unsupported(
        "this init_cfg is not supported",
        "leave it out for the part's own initialisation, or use Pretrained",
        "init_cfg",
    )


def preprocess(model: Section, *, resizes: bool = False) -> Spec:
    """The Spec of `data_preprocessor`; without one, pixels stay as they are.

    Args:
        resizes: whether the detector asks the preprocessing to resize training batches.

    Raises:
        UnsupportedConfig: another preprocessor, padding with other values than 0, other batch augmentations than
            BatchFixedSizePad and, where the detector resizes, BatchSyncRandomResize.
    """
    node = model.take("data_preprocessor")
    if node is None:
        return Spec.of("Preprocess")
    section = Section(node, "data_preprocessor")
    section.only("type", "DetDataPreprocessor", "mmdet.DetDataPreprocessor")
    mean, std = section.take("mean"), section.take("std")
    swap = section.flag("bgr_to_rgb") or section.flag("rgb_to_bgr")
    section.only("pad_value", 0)
    section.skip(
        "rgb_to_bgr", "pad_mask", "mask_pad_value", "pad_seg", "seg_pad_value", "boxtype2tensor", "non_blocking"
    )
    values = {
        "mean": (0.0, 0.0, 0.0) if mean is None else mean,
        "std": (1.0, 1.0, 1.0) if std is None else std,
        "to_rgb": swap,
        "pad_divisor": section.whole("pad_size_divisor", 1),
        **_batch_augments(section, resizes),
    }
    section.finish()
    defaults = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "to_rgb": False, "pad_divisor": 1}
    return spec("Preprocess", without(values, defaults), node)


def _batch_augments(section: Section, resizes: bool) -> dict[str, Any]:
    """`train_size` and `resize` of the batch augmentations."""
    found: dict[str, Any] = {}
    names = {"BatchFixedSizePad": "train_size"} | ({"BatchSyncRandomResize": "resize"} if resizes else {})
    for node in dict_list(section.take("batch_augments"), "batch_augments"):
        inner = Section(node, name_of(node))
        inner.take("type")
        key = names.get(inner.name)
        if key is None or key in found:
            raise UnsupportedConfig(
                f"batch augmentation {inner.name} is not supported{at(inner.place())}\n"
                f"  supported: one {' and one '.join(names)}"
            )
        if key == "resize":
            defaults = {"random_size_range": None, "size_divisor": 32, "interval": 10}
            found[key] = spec(inner.name, options(inner, defaults), node)
        else:
            found[key] = inner.take("size")
            inner.only("img_pad_value", 0)
            inner.skip("pad_mask", "mask_pad_value", "pad_seg", "seg_pad_value")
        inner.finish()
    return found
