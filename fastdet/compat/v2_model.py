"""2.x model keys in 3.x form: pretrained weights, train and test settings, NMS, FPN, assigners' costs."""

from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .dialect import at, derived, name_of, place_of, rename, warn

# Dense heads with these losses take every anchor, whatever sampler the config names (2.x decides by the loss).
UNSAMPLED_LOSSES = frozenset({"FocalLoss", "GHMC", "QualityFocalLoss"})
NMS_TYPES = frozenset({"nms", "soft_nms", "nms_match", "nms_rotated"})
# Backbones whose own argument `pretrained` is no file of weights.
OWN_PRETRAINED = frozenset({"mmcls.TIMMBackbone", "mmpretrain.TIMMBackbone"})
SCOPE_NAMES = {"mmcls.": "mmpretrain."}
OLD_COSTS: dict[str, dict[str, Any]] = {
    "cls_cost": {"type": "ClassificationCost", "weight": 1.0},
    "reg_cost": {"type": "BBoxL1Cost", "weight": 1.0},
    "iou_cost": {"type": "IoUCost", "iou_mode": "giou", "weight": 1.0},
}


def upgrade_model(model: ConfigDict) -> None:
    """Rewrites every 2.x key of a model dict in place; 3.x keys stay as they are.

    Raises:
        ConfigError: values that contradict each other.
        UnsupportedConfig: NMS across pyramid levels.
    """
    _move_pretrained(model)
    _walk(model)
    train, head = model.get("train_cfg"), model.get("bbox_head")
    if isinstance(train, ConfigDict) and isinstance(head, ConfigDict) and "assigner" in train:
        loss = head.get("loss_cls")
        if isinstance(loss, ConfigDict) and name_of(loss) in UNSAMPLED_LOSSES and "sampler" not in train:
            train.put("sampler", derived(train, type="PseudoSampler"), train.source)


def move_settings(cfg: ConfigDict, model: ConfigDict) -> None:
    """Top-level train_cfg and test_cfg of 2.8 and before go into the model; loops of 3.x stay.

    Raises:
        ConfigError: the model has other settings of its own.
    """
    for key in ("train_cfg", "test_cfg"):
        settings = cfg.get(key)
        if not isinstance(settings, ConfigDict) or is_loop(settings):
            continue
        own = model.get(key)
        if own is None:
            model.put(key, settings, cfg.place(key))
        elif own != settings:
            raise ConfigError(
                f"{key} stands at the top level and in the model, with different settings{at(cfg.place(key))}"
                f"{at(model.place(key))}\n  keep the one inside `model`"
            )
        del cfg[key]


def is_loop(settings: ConfigDict) -> bool:
    """True if a top-level train_cfg, val_cfg or test_cfg describes a loop of 3.x, not a model's settings of 2.x."""
    if "type" in settings:
        return name_of(settings).endswith("Loop")
    return not settings or any(k in settings for k in ("by_epoch", "max_epochs", "max_iters", "val_interval", "fp16"))


def _move_pretrained(model: ConfigDict) -> None:
    """`pretrained` of a detector, or of its backbone, becomes the backbone's init_cfg."""
    backbone = model.get("backbone")
    if not isinstance(backbone, ConfigDict):
        return
    for node in (model, backbone):
        if "pretrained" not in node or (node is backbone and name_of(backbone) in OWN_PRETRAINED):
            continue
        source = node.place("pretrained")
        checkpoint = node.pop("pretrained")
        if checkpoint is None:
            continue
        if not isinstance(checkpoint, str):
            raise ConfigError(f"pretrained must be a name, path or address, not {checkpoint!r}{at(source)}")
        old = backbone.get("init_cfg")
        if old is not None and old.get("checkpoint") != checkpoint:
            warn(f"pretrained={checkpoint!r} is used, not the backbone's init_cfg", source)
        fresh = derived(node, type="Pretrained", checkpoint=checkpoint)
        fresh.source = source
        backbone.put("init_cfg", fresh, source)


def _walk(node: Any) -> None:
    """Applies the rules for single dicts everywhere in the model."""
    if isinstance(node, list | tuple):
        for item in node:
            _walk(item)
    if not isinstance(node, ConfigDict):
        return
    _rename_scope(node)
    _old_proposals(node)
    _old_nms(node)
    if "extra_convs_on_inputs" in node:
        _extra_convs(node)
    if node.get("type") == "HungarianAssigner" and "match_costs" not in node:
        _match_costs(node)
    for value in node.values():
        _walk(value)


def _rename_scope(node: ConfigDict) -> None:
    kind = node.get("type")
    for old, new in SCOPE_NAMES.items():
        if isinstance(kind, str) and kind.startswith(old):
            node.put("type", new + kind.removeprefix(old), node.place("type"))


def _old_proposals(node: ConfigDict) -> None:
    """nms_thr, max_num, nms_post and nms_across_levels of an RPN; 2.28 reads max_num before nms_post, and so do we."""
    if node.get("nms_across_levels"):
        raise UnsupportedConfig(
            f"nms_across_levels=True is not supported{at(node.place('nms_across_levels'))}\n"
            "  proposals are suppressed within their pyramid level: write False or leave it out"
        )
    node.pop("nms_across_levels", None)
    if "nms_thr" in node:
        source = node.place("nms_thr")
        threshold = node.pop("nms_thr")
        nms = node.get("nms")
        if nms is not None and nms.get("iou_threshold", nms.get("iou_thr")) != threshold:
            raise ConfigError(f"nms_thr={threshold} and nms={dict(nms)} contradict each other{at(source)}")
        node.put("nms", derived(node, "nms_thr", type="nms", iou_threshold=threshold), source)
    if "max_num" in node:
        if node.get("max_per_img", node["max_num"]) != node["max_num"]:
            raise ConfigError(
                f"max_num={node['max_num']} and max_per_img={node['max_per_img']} contradict each other"
                f"{at(node.place('max_num'))}"
            )
        rename(node, "max_num", "max_per_img")
    if "nms_post" in node:
        if "max_per_img" in node:
            del node["nms_post"]
        else:
            rename(node, "nms_post", "max_per_img")


def _old_nms(node: ConfigDict) -> None:
    if "iou_thr" in node and node.get("type") in NMS_TYPES:
        rename(node, "iou_thr", "iou_threshold")


def _extra_convs(node: ConfigDict) -> None:
    """FPN of 2.6 and before: where the extra levels start was a flag of its own."""
    source = node.place("extra_convs_on_inputs")
    on_inputs = node.pop("extra_convs_on_inputs")
    if node.get("add_extra_convs") is True:
        node.put("add_extra_convs", "on_input" if on_inputs else "on_output", source)


def _match_costs(node: ConfigDict) -> None:
    """HungarianAssigner's three costs as the list that 3.x takes; a missing one has 2.x's default."""
    if not any(key in node for key in OLD_COSTS):
        return
    costs = []
    for key, default in OLD_COSTS.items():
        source = node.place(key)
        cost = node.pop(key, None) or derived(node, **default)
        cost.source = cost.source or source
        costs.append(cost)
    node.put("match_costs", costs, place_of(costs[0]))
