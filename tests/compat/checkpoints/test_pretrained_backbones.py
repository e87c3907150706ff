"""Files that backbones start from: PVT's names, other windows of Swin, scales of standardised weights, timm."""

import importlib.util
import re

import pytest
import torch
from torch import Tensor, nn

from fastdet.compat.checkpoints import load_checkpoint
from fastdet.compat.checkpoints.origins import fit
from fastdet.models.backbones import PyramidVisionTransformer, ResNet, SwinTransformer
from fastdet.models.layers.standardised_conv import scaled_standardised_conv
from fastdet.models.layers.switchable_conv import switchable_conv
from fastdet.utils.errors import EnvironmentProblem

PVT_NAMES = (
    (r"layers\.(\d)\.1\.0\.pos_embed", r"pos_embed\1"),
    (r"layers\.(\d)\.0\.projection\.(.+)", r"patch_embed\1.proj.\2"),
    (r"layers\.(\d)\.0\.norm\.(.+)", r"patch_embed\1.norm.\2"),
    (r"layers\.(\d)\.2\.(.+)", r"norm\1.\2"),
    (r"layers\.(\d)\.1\.(\d)\.(.+)", r"block\1.\2.\3"),
)
INNER_NAMES = (
    ("attn.attn.out_proj.", "attn.proj."),
    ("ffn.layers.0.", "mlp.fc1."),
    ("ffn.layers.1.", "mlp.dwconv.dwconv."),
    ("ffn.layers.3.", "mlp.fc2."),
    ("ffn.layers.4.", "mlp.fc2."),
)


def authors_pvt(model: PyramidVisionTransformer, overlapping: bool) -> dict[str, Tensor]:
    """The weights as PVT's authors name them: stages from 1, queries apart, linear layers."""
    result = {"cls_token": torch.zeros(1, 1, 64), "norm.weight": torch.zeros(64), "head.weight": torch.zeros(3, 64)}
    for name, value in model.state_dict().items():
        for pattern, new in PVT_NAMES:
            found = re.fullmatch(pattern, name)
            if found:
                name = found.expand(new)
                break
        head, dot, rest = name.partition(".")
        name = f"{head[:-1]}{int(head[-1]) + 1}{dot}{rest}"
        if name.startswith("block") and not overlapping:
            head, block, rest = name.split(".", 2)
            name = f"{head}.{int(block) - 1}.{rest}"
        for new, old in INNER_NAMES:
            name = name.replace(new, old)
        if ".mlp.fc" in name and value.dim() == 4:
            value = value[:, :, 0, 0]
        if "in_proj_" in name:
            name = name.replace("attn.attn.in_proj_", "attn.q.")
            result[name], result[name.replace(".q.", ".kv.")] = value.tensor_split([len(value) // 3])
            continue
        if name == "pos_embed4":
            value = torch.cat((torch.full((1, 1, value.shape[2]), 9.0), value), 1)
        result[name] = value
    return result


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_pvt_of_its_authors_is_the_same_network(overlapping: bool) -> None:
    torch.manual_seed(0)
    model = PyramidVisionTransformer(
        overlapping=overlapping, embed_dims=8, num_layers=(1, 2, 1, 1), pretrain_img_size=64
    )
    own = model.state_dict()
    found = fit(authors_pvt(model, overlapping), own)
    assert found.origin is not None
    assert found.origin.title == "PVT (its authors)"
    assert set(own) <= set(found.weights)
    for name, value in own.items():
        torch.testing.assert_close(found.weights[name], value, msg=name)


def test_position_biases_are_stretched_to_larger_windows() -> None:
    small, large = (
        SwinTransformer(embed_dims=8, depths=(1,), num_heads=(2,), out_indices=(0,), window_size=w) for w in (2, 3)
    )
    table = "stages.0.blocks.0.attn.w_msa.relative_position_bias_table"
    nn.init.constant_(small.get_parameter(table), 2.0)
    small.get_parameter(table).data[:, 1] = 5.0
    names = {
        name.replace("stages.", "layers.").replace(".w_msa", "").replace("projection", "proj"): value
        for name, value in small.state_dict().items()
    }
    found = fit(names, large.state_dict()).weights[table]
    torch.testing.assert_close(found, torch.tensor([2.0, 5.0]).expand(25, 2))


def test_plain_weights_stay_what_they_are_in_standardised_convolutions() -> None:
    torch.manual_seed(0)
    arguments = {"depth": 50, "base_channels": 8, "num_stages": 2, "strides": (1, 2), "dilations": (1, 1)}
    arguments |= {"out_indices": (0, 1)}
    plain = ResNet(**arguments).eval()  # type: ignore[arg-type]
    model = ResNet(
        **arguments,  # type: ignore[arg-type]
        conv=scaled_standardised_conv(),
        dcn=switchable_conv(),
        stage_with_dcn=(False, True),
    ).eval()
    found = fit(plain.state_dict(), model.state_dict())
    assert found.renamed == ()
    missing, unexpected = model.load_state_dict(found.weights, strict=False)
    assert not unexpected
    assert all(re.search(r"switch|context|weight_diff", name) for name in missing)
    x = torch.rand(1, 3, 64, 64)
    for a, b in zip(model(x), plain(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    trained = model.state_dict()
    assert fit(trained, trained).weights is trained


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is there")
def test_weights_of_timm_name_its_package() -> None:
    with pytest.raises(EnvironmentProblem, match=r"'resnet18' need the package timm: pip install 'fastdet\[timm\]'"):
        load_checkpoint("timm://resnet18")
