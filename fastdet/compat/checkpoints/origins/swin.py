"""Swin Transformers as their authors and timm name them."""

import math
import re
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from fastdet.compat.checkpoints.origins.base import Origin, Rule, Weights

_MERGING = re.compile(r"\bdownsample\.(?:norm\.(?:weight|bias)|reduction\.weight)$")


def _rules(weights: Weights) -> Sequence[Rule]:
    names = [re.fullmatch(r"layers\.(\d)\.downsample\.reduction\.weight", name) for name in weights]
    # timm since 0.9 counts a merging to the stage after it.
    shift = 0 if any(found and found[1] == "0" for found in names) else 1

    def merging(found: re.Match[str]) -> str:
        return f"backbone.stages.{int(found[1]) - shift}.downsample.{found[2]}"

    return (
        (r"patch_embed\.proj\.(\w+)", r"backbone.patch_embed.projection.\1"),
        (r"patch_embed\.norm\.(\w+)", r"backbone.patch_embed.norm.\1"),
        (r"layers\.(\d)\.downsample\.(.+)", merging),
        (r"layers\.(\d\.blocks\.\d+)\.attn_mask", ""),
        (r"layers\.(\d\.blocks\.\d+)\.attn\.(.+)", r"backbone.stages.\1.attn.w_msa.\2"),
        (r"layers\.(\d\.blocks\.\d+)\.mlp\.fc1\.(\w+)", r"backbone.stages.\1.ffn.layers.0.0.\2"),
        (r"layers\.(\d\.blocks\.\d+)\.mlp\.fc2\.(\w+)", r"backbone.stages.\1.ffn.layers.1.\2"),
        (r"layers\.(\d\.blocks\.\d+\.norm\d\.\w+)", r"backbone.stages.\1"),
        (r"norm\.(\w+)", r"backbone.norm.\1"),
        (r"head\.(.+)", r"backbone.head.\1"),
    )


def _values(name: str, value: Tensor, weights: Weights, own: Tensor | None) -> Tensor:
    """Patch merging stacks the four neighbours of a 2x2 square before their channels, by column, then row.

    Here the channels come first, as nn.Unfold has them, and the neighbours by row, then column. Position biases are
    stretched to the model's windows.
    """
    if name.endswith("relative_position_bias_table") and own is not None and value.shape != own.shape:
        return _stretched(value, math.isqrt(len(own)))
    if not _MERGING.search(name):
        return value
    channels = value.shape[-1] // 4
    columns_first = value.reshape(*value.shape[:-1], 2, 2, channels)
    return columns_first.movedim(-1, -3).transpose(-1, -2).reshape(value.shape)


def _stretched(value: Tensor, side: int) -> Tensor:
    """A table [S * S, heads] of relative positions for S = side."""
    old = math.isqrt(len(value))
    grid = F.interpolate(value.T.reshape(1, -1, old, old), size=(side, side), mode="bicubic")
    return grid.flatten(2)[0].T.contiguous()


SWIN = Origin(
    title="Swin Transformer (its authors, timm)",
    mark=re.compile(r"^layers\.\d\.blocks\.\d+\.attn\.relative_position_bias_table$"),
    rules=_rules,
    values=_values,
)
