"""Backbones of pycls, timm and the Swin Transformer's authors under our names."""

import pytest
import torch
from torch import Tensor, nn

from fastdet.compat.checkpoints.origins import fit, origin_of
from fastdet.models.backbones import RegNet, ResNet

REGNET_KINDS = ("weight", "bias", "running_mean", "running_var")


def pycls_name(name: str) -> str:
    """pycls' name of a RegNet's weight."""
    parts = name.split(".")
    if not name.startswith("layer"):
        return {"conv1": "stem.conv", "bn1": "stem.bn"}[parts[0]] + f".{parts[1]}"
    start = f"s{parts[0][-1]}.b{int(parts[1]) + 1}"
    if parts[2] == "downsample":
        return f"{start}.{('proj', 'bn')[int(parts[3])]}.{parts[4]}"
    letter = "abc"[int(parts[2][-1]) - 1]
    return f"{start}.f.{letter}{'_bn' if parts[2].startswith('bn') else ''}.{parts[3]}"


def timm_name(name: str) -> str:
    """timm's name of a RegNet's weight."""
    parts = name.split(".")
    if not name.startswith("layer"):
        return pycls_name(name)
    start = f"s{parts[0][-1]}.b{int(parts[1]) + 1}"
    if parts[2] == "downsample":
        return f"{start}.downsample.{('conv', 'bn')[int(parts[3])]}.{parts[4]}"
    return f"{start}.conv{parts[2][-1]}.{'bn' if parts[2].startswith('bn') else 'conv'}.{parts[3]}"


@pytest.mark.parametrize(("rename", "title"), [(pycls_name, "pycls"), (timm_name, "timm")])
def test_every_weight_of_a_regnet_has_its_place(rename: object, title: str) -> None:
    with torch.device("meta"):
        own = RegNet(arch="regnetx_400mf").state_dict()
    own = {name: value for name, value in own.items() if "num_batches_tracked" not in name}
    weights = {rename(name): value for name, value in own.items()}  # type: ignore[operator]
    found = fit(weights | {"head.fc.weight": torch.empty(1)}, own)
    assert {name: value.shape for name, value in found.weights.items() if name in own} == {
        name: value.shape for name, value in own.items()
    }
    assert [name for name in found.weights if name not in own] == ["fc.weight"]
    assert found.origin is not None
    assert found.origin.title == title


def test_deep_stems_of_timm_are_found() -> None:
    with torch.device("meta"):
        own = ResNet(depth=50, deep_stem=True, avg_down=True).state_dict()
    stem = {"stem.0": "conv1.0", "stem.1": "conv1.1", "stem.3": "conv1.3", "stem.4": "conv1.4", "stem.6": "conv1.6"}
    stem["stem.7"] = "bn1"
    weights = {}
    for name, value in own.items():
        layer, _, kind = name.rpartition(".")
        weights[f"{stem.get(layer, layer)}.{kind}"] = value
    assert {name for name in weights if name not in own}
    assert fit(weights, own).weights.keys() == own.keys()


def swin(stage_of_merging: int) -> dict[str, Tensor]:
    block = "layers.0.blocks.1"
    merging = f"layers.{stage_of_merging}.downsample"
    return {
        "patch_embed.proj.weight": torch.zeros(1),
        f"{block}.attn.relative_position_bias_table": torch.zeros(1),
        f"{block}.attn.qkv.weight": torch.zeros(1),
        f"{block}.mlp.fc1.bias": torch.zeros(1),
        f"{block}.mlp.fc2.bias": torch.zeros(1),
        f"{block}.attn_mask": torch.zeros(1),
        # Two channels of four neighbours: top left, bottom left, top right, bottom right.
        f"{merging}.reduction.weight": torch.tensor([[0.0, 1, 10, 11, 20, 21, 30, 31]]),
        f"{merging}.norm.bias": torch.tensor([0.0, 1, 10, 11, 20, 21, 30, 31]),
    }


@pytest.mark.parametrize("stage_of_merging", [0, 1])
def test_swins_of_both_spellings_get_our_names_and_order(stage_of_merging: int) -> None:
    found = fit(swin(stage_of_merging), {"stages.0.blocks.1.attn.w_msa.qkv.weight": torch.zeros(1)}).weights
    assert [name for name in found if "downsample" not in name] == [
        "patch_embed.projection.weight",
        "stages.0.blocks.1.attn.w_msa.relative_position_bias_table",
        "stages.0.blocks.1.attn.w_msa.qkv.weight",
        "stages.0.blocks.1.ffn.layers.0.0.bias",
        "stages.0.blocks.1.ffn.layers.1.bias",
    ]
    # Each channel in turn: top left, top right, bottom left, bottom right, as nn.Unfold gives them.
    order = [0, 20, 10, 30, 1, 21, 11, 31]
    assert found["stages.0.downsample.reduction.weight"].tolist() == [order]
    assert found["stages.0.downsample.norm.bias"].tolist() == order
    grid = torch.arange(8.0).view(1, 2, 2, 2)
    values = torch.stack([grid[0, :, 0, 0], grid[0, :, 1, 0], grid[0, :, 0, 1], grid[0, :, 1, 1]]).reshape(-1)
    theirs = values @ torch.tensor([0.0, 1, 10, 11, 20, 21, 30, 31])
    assert theirs == nn.Unfold(2, stride=2)(grid)[0, :, 0] @ torch.tensor(order, dtype=torch.float32)


def test_our_own_names_have_no_origin() -> None:
    assert origin_of({"backbone.conv1.weight": torch.zeros(1), "bbox_head.retina_cls.bias": torch.zeros(1)}) is None
    assert origin_of({"conv1.weight": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(1)}) is None
