"""torchvision's Faster and Mask R-CNN and RetinaNet with FPN, both versions, of releases before and since 0.13.

In torchvision class 0 is the background, everywhere. Files trained on COCO have an output for every number from 0 to
90 that COCO gave to a class; a model of 80 classes takes the 80 that are in use.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.compat.checkpoints.origins.base import Origin, Rule, Weights

# COCO's category ids in label order: 1 to 90 without those that no object has.
COCO_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
_COCO_OUTPUTS = 91

_CLASSIFIER = "fc_cls"  # The one with a softmax, whose background goes last.
_BY_CLASS = re.compile(r"\b(fc_cls|fc_reg|conv_logits|retina_cls)\.(?:weight|bias)$")
_BOX_FC = r"roi_heads\.box_head\.(\d+)\.(weight|bias)"


def _rules(weights: Weights) -> Sequence[Rule]:
    rpn_convs = {name for name in weights if re.fullmatch(r"rpn\.head\.conv\.\d\.0\.weight", name)}
    rpn_conv = r"rpn_head.rpn_conv.\1.conv.\2" if len(rpn_convs) > 1 else r"rpn_head.rpn_conv.\2"
    fcs = sorted({int(found[1]) for found in (re.fullmatch(_BOX_FC, name) for name in weights) if found})
    return (
        (r"backbone\.body\.(.+)", r"backbone.\1"),
        (r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(weight|bias)", r"neck.lateral_convs.\1.conv.\2"),
        (r"backbone\.fpn\.inner_blocks\.(\d)\.1\.(\w+)", r"neck.lateral_convs.\1.bn.\2"),
        (r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(weight|bias)", r"neck.fpn_convs.\1.conv.\2"),
        (r"backbone\.fpn\.layer_blocks\.(\d)\.1\.(\w+)", r"neck.fpn_convs.\1.bn.\2"),
        (r"backbone\.fpn\.extra_blocks\.p(\d)\.(\w+)",
         lambda found: f"neck.fpn_convs.{int(found[1]) - 3}.conv.{found[2]}"),
        (r"rpn\.head\.conv\.(?:(\d)\.0\.)?(\w+)", rpn_conv),
        (r"rpn\.head\.cls_logits\.(\w+)", r"rpn_head.rpn_cls.\1"),
        (r"rpn\.head\.bbox_pred\.(\w+)", r"rpn_head.rpn_reg.\1"),
        (r"roi_heads\.box_head\.fc([67])\.(\w+)",
         lambda found: f"roi_head.bbox_head.shared_fcs.{int(found[1]) - 6}.{found[2]}"),
        (_BOX_FC, lambda found: f"roi_head.bbox_head.shared_fcs.{fcs.index(int(found[1]))}.{found[2]}"),
        (r"roi_heads\.box_head\.(\d)\.0\.(\w+)", r"roi_head.bbox_head.shared_convs.\1.conv.\2"),
        (r"roi_heads\.box_head\.(\d)\.1\.(\w+)", r"roi_head.bbox_head.shared_convs.\1.bn.\2"),
        (r"roi_heads\.box_predictor\.cls_score\.(\w+)", r"roi_head.bbox_head.fc_cls.\1"),
        (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", r"roi_head.bbox_head.fc_reg.\1"),
        (r"roi_heads\.mask_head\.mask_fcn(\d)\.(\w+)",
         lambda found: f"roi_head.mask_head.convs.{int(found[1]) - 1}.conv.{found[2]}"),
        (r"roi_heads\.mask_head\.(\d)\.0\.(\w+)", r"roi_head.mask_head.convs.\1.conv.\2"),
        (r"roi_heads\.mask_head\.(\d)\.1\.(\w+)", r"roi_head.mask_head.convs.\1.bn.\2"),
        (r"roi_heads\.mask_predictor\.conv5_mask\.(\w+)", r"roi_head.mask_head.upsample.\1"),
        (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(\w+)", r"roi_head.mask_head.conv_logits.\1"),
        (r"head\.classification_head\.conv\.(\d)\.0\.(\w+)", r"bbox_head.cls_convs.\1.conv.\2"),
        (r"head\.regression_head\.conv\.(\d)\.0\.(\w+)", r"bbox_head.reg_convs.\1.conv.\2"),
        (r"head\.classification_head\.conv\.(\d)\.1\.(\w+)", r"bbox_head.cls_convs.\1.gn.\2"),
        (r"head\.regression_head\.conv\.(\d)\.1\.(\w+)", r"bbox_head.reg_convs.\1.gn.\2"),
        (r"head\.(classification|regression)_head\.conv\.(\d)\.(\w+)", _old_tower),
        (r"head\.classification_head\.cls_logits\.(\w+)", r"bbox_head.retina_cls.\1"),
        (r"head\.regression_head\.bbox_reg\.(\w+)", r"bbox_head.retina_reg.\1"),
    )  # fmt: skip


def _old_tower(found: re.Match[str]) -> str:
    """Before 0.13 convolutions alternate with ReLUs in one list."""
    part = {"classification": "cls_convs", "regression": "reg_convs"}[found[1]]
    return f"bbox_head.{part}.{int(found[2]) // 2}.conv.{found[3]}"


def _values(name: str, value: Tensor, weights: Weights, own: Tensor | None) -> Tensor:
    found = _BY_CLASS.search(name)
    if found is None:
        return value
    outputs = _outputs(name, found[1], weights)
    if not outputs or len(value) % outputs:
        return value
    # [groups before, classes, numbers of a class]: anchors come before classes, the four numbers of a box after them.
    numbers = 4 if found[1] == "fc_reg" else 1
    table = value.reshape(-1, outputs, numbers, *value.shape[1:])
    picked = _picked(outputs, len(table), numbers, found[1] == _CLASSIFIER, own)
    return table[:, picked].reshape(-1, *value.shape[1:])


def _outputs(name: str, kind: str, weights: Weights) -> int:
    """The number of classes of a file, with the background."""
    if kind == "retina_cls":
        deltas = next((len(w) for n, w in weights.items() if ".retina_reg." in n), 0)
        rows = len(weights[name])
        return rows // (deltas // 4) if deltas >= 4 else 0
    return next((len(w) for n, w in weights.items() if n.endswith(".fc_cls.bias")), 0)


def _picked(outputs: int, groups: int, numbers: int, is_softmax: bool, own: Tensor | None) -> Tensor:
    """The file's classes in the model's order."""
    wanted = len(own) // (groups * numbers) - is_softmax if own is not None else outputs - 1
    all_classes = range(1, outputs)
    classes = COCO_IDS if outputs == _COCO_OUTPUTS and wanted == len(COCO_IDS) else all_classes
    return torch.tensor([*classes, 0] if is_softmax else [*classes])


TORCHVISION = Origin(
    title="torchvision",
    mark=re.compile(r"^backbone\.body\.|^rpn\.head\.|^head\.classification_head\."),
    rules=_rules,
    values=_values,
)
