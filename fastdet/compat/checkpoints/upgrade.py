"""Weights of MMDetection 1.x in the order and under the names of 2.x and 3.x.

In 1.x, class 0 is the background; since 2.0 it is the last one of a softmax, and absent elsewhere. Other than
MMDetection's `upgrade_model_version.py`, biases are treated as the weights beside them: that tool turns the biases of
sigmoid classifiers, and drops the last class instead of the background from biases of boxes and masks.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fastdet.compat.checkpoints.load import Checkpoint
from fastdet.config.literal import read_literal
from fastdet.utils.errors import CheckpointError

_ROI_HEADS = ("bbox_head", "mask_head", "semantic_head", "grid_head", "mask_iou_head")
_CLASSIFIERS = re.compile(r"\b(conv_cls|retina_cls|fc_cls|fcos_cls|fovea_cls)\.(?:weight|bias)$")
_RPN_CLASSIFIER = re.compile(r"\brpn_cls\.(?:weight|bias)$")
_REGRESSORS = re.compile(r"\bfc_reg\.(?:weight|bias)$")
_MASKS = re.compile(r"\bconv_logits\.(?:weight|bias)$")
_SSD_CLASSIFIERS = re.compile(r"\bcls_convs\.\d+\.(?:weight|bias)$")
_RETINA_TOWERS = re.compile(r"\b((?:cls|reg)_convs\.\d+)\.(weight|bias)$")
_RPN_CLASSES = 2  # Background and object.


@dataclass(frozen=True)
class _Layout:
    """What the config says of a 1.x detector's weights."""

    two_stage: bool
    head: str
    agnostic: bool
    softmax: bool
    rpn_softmax: bool
    num_classes: int


def upgrade(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with weights as 2.x and 3.x have them; its optimizer state, which no longer fits, is dropped.

    Raises:
        CheckpointError: a file that does not say that MMDetection 1.x (or 2.0 to 2.4, whose RPN classes are in the old
            order) wrote it, or by which config.
    """
    version = _version(checkpoint)
    layout = _layout(checkpoint)
    weights: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in checkpoint.state_dict.items():
        new_name, new_value = _upgraded(name, value, layout, version) if version < (2,) else (name, value)
        if version < (2, 5) and layout.rpn_softmax and _RPN_CLASSIFIER.search(name):
            new_value = _background_last(value, _RPN_CLASSES)
        weights[new_name] = new_value
    meta = {**checkpoint.meta, "upgraded_from": ".".join(map(str, version))}
    return replace(checkpoint, state_dict=weights, meta=meta, optimizer=None, raw_weights={}, extras={})


def _upgraded(name: str, value: Tensor, layout: _Layout, version: tuple[int, ...]) -> tuple[str, Tensor]:
    """The name and the value of a 1.x weight in 2.x."""
    classes = layout.num_classes
    new_name = f"roi_head.{name}" if layout.two_stage and name.startswith(_ROI_HEADS) else name
    if layout.head == "RetinaHead" and version <= (0, 5, 3):
        new_name = _RETINA_TOWERS.sub(r"\1.conv.\2", new_name)
    if (_CLASSIFIERS.search(name) and layout.softmax) or (layout.head == "SSDHead" and _SSD_CLASSIFIERS.search(name)):
        return new_name, _background_last(value, classes)
    if (_REGRESSORS.search(name) and not layout.agnostic) or _MASKS.search(name):
        return new_name, _without_background(value, classes)
    return new_name, value


def _background_last(value: Tensor, classes: int) -> Tensor:
    """Moves the first of each `classes` outputs behind the others; [K * classes, ...]."""
    if len(value) % classes:
        return value
    groups = value.reshape(-1, classes, *value.shape[1:])
    return groups.roll(-1, dims=1).reshape(value.shape)


def _without_background(value: Tensor, classes: int) -> Tensor:
    """Drops the outputs of class 0; [classes * K, ...] to [(classes - 1) * K, ...]."""
    if len(value) % classes:
        return value
    return value[len(value) // classes :].clone()


def _version(checkpoint: Checkpoint) -> tuple[int, ...]:
    text = str(checkpoint.meta.get("mmdet_version", ""))
    numbers = tuple(map(int, re.findall(r"\d+", text.partition("+")[0].partition("rc")[0])[:3]))
    if not numbers or numbers >= (2, 5):
        said = f"written by MMDetection {text}" if text else "without a meta.mmdet_version"
        raise CheckpointError(
            f"{checkpoint.path} is {said}: only files of MMDetection 0.x, 1.x and 2.0 to 2.4 are upgraded; "
            "newer ones load as they are"
        )
    return numbers


def _layout(checkpoint: Checkpoint) -> _Layout:
    text = checkpoint.meta.get("config")
    if not isinstance(text, str):
        raise CheckpointError(f"{checkpoint.path} does not hold its config (meta.config), which upgrading needs")
    model = read_literal(text, f"{checkpoint.path}:meta.config").get("model") or {}
    heads = [h for h in _as_list(model.get("bbox_head")) if isinstance(h, Mapping)]
    first: Mapping[str, Any] = heads[0] if heads else {}
    two_stage = "rpn_head" in model
    return _Layout(
        two_stage=two_stage,
        head=str(first.get("type", "")),
        agnostic=any(bool(h.get("reg_class_agnostic")) for h in heads),
        softmax=bool(heads) and not _is_sigmoid(first, default=not two_stage),
        rpn_softmax=two_stage and not _is_sigmoid(model["rpn_head"], default=False),
        num_classes=int(first.get("num_classes", 81)),
    )


def _is_sigmoid(head: Mapping[str, Any], *, default: bool) -> bool:
    loss = head.get("loss_cls")
    return bool(loss.get("use_sigmoid", default)) if isinstance(loss, Mapping) else default


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]
