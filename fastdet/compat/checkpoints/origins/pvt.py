"""Pyramid vision transformers of both versions as their authors name them."""

import math
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastdet.compat.checkpoints.origins.base import Origin, Rule, Weights

_LINEAR = re.compile(r"\.ffn\.layers\.\d\.weight$")
_QUERY = re.compile(r"\.attn\.attn\.in_proj_(?:weight|bias)$")
_KEY_VALUE = ("attn.attn.in_proj_", "attn.kv.")  # the authors project queries apart from keys and values


def _rules(weights: Weights) -> Sequence[Rule]:
    # The first version's position embedding stands before the blocks; the second one has a convolution between the
    # layers of the feed-forward network.
    first = int(any(name.startswith("pos_embed") for name in weights))
    last = 4 if any("dwconv" in name for name in weights) else 3

    def stage(part: str) -> Callable[[re.Match[str]], str]:
        return lambda found: f"backbone.layers.{int(found[1]) - 1}.{part}{found[2]}"

    def block(part: str) -> Callable[[re.Match[str]], str]:
        return lambda found: f"backbone.layers.{int(found[1]) - 1}.1.{int(found[2]) + first}.{part}{found[3]}"

    return (
        (r"pos_embed(\d)()", stage("1.0.pos_embed")),
        (r"patch_embed(\d)\.proj\.(\w+)", stage("0.projection.")),
        (r"patch_embed(\d)\.norm\.(\w+)", stage("0.norm.")),
        (r"block(\d)\.(\d+)\.attn\.q\.(\w+)", block(_KEY_VALUE[0])),
        (r"block(\d)\.(\d+)\.attn\.kv\.(\w+)", block(_KEY_VALUE[1])),
        (r"block(\d)\.(\d+)\.attn\.proj\.(\w+)", block("attn.attn.out_proj.")),
        (r"block(\d)\.(\d+)\.mlp\.fc1\.(\w+)", block("ffn.layers.0.")),
        (r"block(\d)\.(\d+)\.mlp\.dwconv\.dwconv\.(\w+)", block("ffn.layers.1.")),
        (r"block(\d)\.(\d+)\.mlp\.fc2\.(\w+)", block(f"ffn.layers.{last}.")),
        (r"block(\d)\.(\d+)\.(.+)", block("")),
        (r"norm(\d)\.(\w+)", stage("2.")),
        (r"norm\..+|cls_token", ""),
        (r"head\.(.+)", r"backbone.head.\1"),
    )


def _values(name: str, value: Tensor, weights: Weights, own: Tensor | None) -> Tensor:
    if _QUERY.search(name):
        return torch.cat((value, weights[name.replace(*_KEY_VALUE)]))
    if name.endswith(".pos_embed"):  # the last stage's begins with the class token's
        return value[:, value.shape[1] - math.isqrt(value.shape[1]) ** 2 :]
    if _LINEAR.search(name) and value.dim() == 2:
        return value[:, :, None, None]
    return value


PVT = Origin(
    title="PVT (its authors)",
    mark=re.compile(r"^block\d\.\d+\.attn\.q\.weight$"),
    rules=_rules,
    values=_values,
)
