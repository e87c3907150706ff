"""Detectron2's Faster and Mask R-CNN (FPN, C4) and RetinaNet.

Boxes, deltas and the order of classes (the background last) are as here. Anchors of several sizes differ: Detectron2
counts sizes, then ratios within a size; here ratios come first, then sizes.
"""

import re
from collections.abc import Sequence

from torch import Tensor

from fastdet.compat.checkpoints.origins.base import Origin, Rule, Weights

_RATIOS = 3  # A cell's anchors of one size, as in all of its model zoo.
_BODY = r"(?:backbone\.bottom_up\.|backbone\.)?"
_LEVEL = re.compile(r"backbone\.fpn_lateral(\d)\.")
_DENSE = re.compile(r"\b(?:rpn_cls|rpn_reg|retina_cls|retina_reg)\.(?:weight|bias)$")
_NORMS = {"conv1": "bn1", "conv2": "bn2", "conv3": "bn3", "shortcut": "downsample.1"}


def _rules(weights: Weights) -> Sequence[Rule]:
    levels = [int(found[1]) for found in map(_LEVEL.match, weights) if found]
    first = min(levels, default=2)
    count = len({*levels})

    def level(found: re.Match[str]) -> str:
        part = {"lateral": "lateral_convs", "output": "fpn_convs"}[found[1]]
        return f"neck.{part}.{int(found[2]) - first}.conv.{found[3]}"

    def extra(found: re.Match[str]) -> str:
        return f"neck.fpn_convs.{int(found[1]) - 6 + count}.conv.{found[2]}"

    return (
        (rf"{_BODY}stem\.conv1\.norm\.(\w+)", r"backbone.bn1.\1"),
        (rf"{_BODY}stem\.conv1\.(\w+)", r"backbone.conv1.\1"),
        (rf"{_BODY}res(\d)\.(\d+)\.(conv\d|shortcut)\.(norm\.)?(\w+)", lambda found: f"backbone.{_layer(found)}"),
        (r"roi_heads\.res(5)\.(\d+)\.(conv\d|shortcut)\.(norm\.)?(\w+)",
         lambda found: f"roi_head.shared_head.{_layer(found)}"),
        (r"backbone\.fpn_(lateral|output)(\d)\.(\w+)", level),
        (r"backbone\.top_block\.p(\d)\.(\w+)", extra),
        (r"proposal_generator\.rpn_head\.conv\.(\w+)", r"rpn_head.rpn_conv.\1"),
        (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"rpn_head.rpn_cls.\1"),
        (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"rpn_head.rpn_reg.\1"),
        (r"roi_heads\.box_head\.fc(\d)\.(\w+)",
         lambda found: f"roi_head.bbox_head.shared_fcs.{int(found[1]) - 1}.{found[2]}"),
        (r"roi_heads\.box_predictor\.cls_score\.(\w+)", r"roi_head.bbox_head.fc_cls.\1"),
        (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", r"roi_head.bbox_head.fc_reg.\1"),
        (r"roi_heads\.mask_head\.mask_fcn(\d)\.(\w+)",
         lambda found: f"roi_head.mask_head.convs.{int(found[1]) - 1}.conv.{found[2]}"),
        (r"roi_heads\.mask_head\.deconv\.(\w+)", r"roi_head.mask_head.upsample.\1"),
        (r"roi_heads\.mask_head\.predictor\.(\w+)", r"roi_head.mask_head.conv_logits.\1"),
        (r"head\.(cls|bbox)_subnet\.(\d+)\.(\w+)", _tower),
        (r"head\.cls_score\.(\w+)", r"bbox_head.retina_cls.\1"),
        (r"head\.bbox_pred\.(\w+)", r"bbox_head.retina_reg.\1"),
        (r"(?:proposal_generator\.)?anchor_generator\..*|pixel_(?:mean|std)", ""),
    )  # fmt: skip


def _layer(found: re.Match[str]) -> str:
    """A weight of the residual layers: stage, block, convolution or shortcut, and whether it is the norm's."""
    stage, block, conv, norm, kind = found.groups()
    part = _NORMS[conv] if norm else conv.replace("shortcut", "downsample.0")
    return f"layer{int(stage) - 1}.{block}.{part}.{kind}"


def _tower(found: re.Match[str]) -> str:
    """Convolutions alternate with ReLUs."""
    part = {"cls": "cls_convs", "bbox": "reg_convs"}[found[1]]
    return f"bbox_head.{part}.{int(found[2]) // 2}.conv.{found[3]}"


def _values(name: str, value: Tensor, weights: Weights, own: Tensor | None) -> Tensor:
    if not _DENSE.search(name):
        return value
    head = "rpn_reg" if ".rpn_" in name else "retina_reg"
    deltas = next(w for n, w in weights.items() if f".{head}." in n)
    sizes = len(deltas) // 4 // _RATIOS
    if sizes < 2 or len(value) % (sizes * _RATIOS):
        return value
    return value.reshape(sizes, _RATIOS, -1, *value.shape[1:]).transpose(0, 1).reshape(value.shape)


DETECTRON2 = Origin(
    title="Detectron2",
    mark=re.compile(rf"^{_BODY}stem\.conv1\.(?:weight|norm)|^{_BODY}res[2-5]\.\d+\.conv\d\.weight$"),
    rules=_rules,
    values=_values,
)
