"""Swin, PVT, ConvNeXt, EfficientNet, timm, DetectoRS, TridentNet: maps, keys, numbers of other libraries."""

import importlib.util

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fastdet.models.backbones import (
    ConvNeXt,
    EfficientNet,
    PyramidVisionTransformer,
    ResNet,
    SwinTransformer,
    TIMMBackbone,
)
from fastdet.models.backbones.trident import TridentConv, trident_bottleneck
from fastdet.models.layers import SwitchableConv2d
from fastdet.models.layers.norm import batch_norm
from fastdet.models.layers.standardised_conv import scaled_standardised_conv
from fastdet.models.layers.switchable_conv import switchable_conv
from fastdet.utils.errors import EnvironmentProblem


def shapes(model: nn.Module, height: int = 64, width: int = 64) -> list[tuple[int, ...]]:
    return [tuple(m.shape[1:]) for m in model.eval()(torch.rand(1, 3, height, width))]


def frozen(model: nn.Module) -> set[str]:
    return {".".join(k.split(".")[:2]) for k, p in model.named_parameters() if not p.requires_grad}


def tiny_swin(**changes: object) -> SwinTransformer:
    arguments = {"embed_dims": 8, "depths": (2, 2), "num_heads": (1, 2), "out_indices": (0, 1), "window_size": 4}
    return SwinTransformer(**(arguments | changes))  # type: ignore[arg-type]


def test_swin_gives_a_pyramid_of_any_picture() -> None:
    assert shapes(tiny_swin(), 50, 70) == [(8, 13, 18), (16, 7, 9)]
    keys = set(tiny_swin(out_indices=(1,)).state_dict())
    assert {"stages.0.downsample.reduction.weight", "stages.1.blocks.1.attn.w_msa.qkv.bias", "norm1.weight"} <= keys
    assert {"stages.0.blocks.0.ffn.layers.0.0.weight", "stages.0.blocks.0.attn.w_msa.relative_position_index"} <= keys
    assert "norm0.weight" not in keys


def test_swin_stages_freeze() -> None:
    model = tiny_swin(frozen_stages=1, drop_path_rate=0.5).train()
    assert frozen(model) == {"patch_embed.projection", "patch_embed.norm", "stages.0", "norm0.weight", "norm0.bias"}
    assert not model.stages[0].training
    assert model.stages[1].training
    with pytest.raises(ValueError, match="frozen_stages"):
        tiny_swin(frozen_stages=3)
    with pytest.raises(ValueError, match="each stage"):
        tiny_swin(num_heads=(1,))


@pytest.mark.parametrize("make", [tiny_swin, lambda **c: ConvNeXt("atto", out_indices=(0,), **c)])
def test_recomputed_blocks_give_the_same_gradients(make) -> None:
    torch.manual_seed(0)
    plain, saving = make(with_cp=False), make(with_cp=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.rand(1, 3, 32, 32)
    for model in (plain.eval(), saving.eval()):
        model(x)[0].sum().backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_both_versions_of_pvt_give_a_pyramid() -> None:
    small = {"embed_dims": 8, "num_layers": (1, 1, 1, 1)}
    first = PyramidVisionTransformer(pretrain_img_size=64, **small)  # type: ignore[arg-type]
    assert shapes(first, 64, 96) == [(8, 16, 24), (16, 8, 12), (40, 4, 6), (64, 2, 3)]
    assert first.state_dict()["layers.0.1.0.pos_embed"].shape == (1, 256, 8)
    assert "layers.0.1.1.attn.sr.weight" in first.state_dict()
    second = PyramidVisionTransformer(overlapping=True, out_indices=(1, 3), **small)  # type: ignore[arg-type]
    assert shapes(second) == [(16, 8, 8), (64, 2, 2)]
    keys = set(second.state_dict())
    assert {"layers.3.2.weight", "layers.0.1.0.ffn.layers.1.weight", "layers.0.1.0.ffn.layers.4.bias"} <= keys
    assert "layers.3.1.0.attn.sr.weight" not in keys  # the coarsest map is attended as it is
    with pytest.raises(ValueError, match="num_layers needs 4 values"):
        PyramidVisionTransformer(num_layers=(1, 1))


def test_convnext_has_torchvisions_numbers() -> None:
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    other = models.convnext_tiny().features.eval()
    model = ConvNeXt("tiny", layer_scale_init_value=1.0).eval()
    stages = [other[i].state_dict() for i in (1, 3, 5, 7)]
    coarser = [other[i].state_dict() for i in (0, 2, 4, 6)]
    for own, theirs in zip((*model.downsample_layers, *model.stages), (*coarser, *stages), strict=True):
        values = [v.reshape(w.shape) for v, w in zip(theirs.values(), own.state_dict().values(), strict=True)]
        own.load_state_dict(dict(zip(own.state_dict(), values, strict=True)))
    x = torch.rand(1, 3, 64, 64)
    expected = nn.functional.layer_norm(other(x).permute(0, 2, 3, 1), (768,), eps=1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(model(x)[0], expected, rtol=1e-4, atol=1e-5)


def test_convnext_sizes_and_freezing() -> None:
    model = ConvNeXt("atto", out_indices=(0, 2), frozen_stages=1, drop_path_rate=0.1).train()
    assert shapes(model) == [(40, 16, 16), (160, 4, 4)]
    assert frozen(model) == {"downsample_layers.0", "stages.0"}
    assert "stages.0.0.gamma" not in ConvNeXt("atto", layer_scale_init_value=0).state_dict()
    for arguments, message in (({"arch": "giant"}, "arch must be"), ({"out_indices": (4,)}, "out_indices")):
        with pytest.raises(ValueError, match=message):
            ConvNeXt(**arguments)  # type: ignore[arg-type]


def test_an_efficientnet_has_torchvisions_numbers() -> None:
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    other = models.efficientnet_b0().features.eval()
    model = EfficientNet("b0", conv=nn.Conv2d, norm=batch_norm()).eval()
    values = list(other.state_dict().values())
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))  # the same layers in the same order
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model(x)[0], other(x), rtol=1e-4, atol=1e-5)


def test_efficientnets_grow_in_width_and_depth() -> None:
    with torch.device("meta"):
        model = EfficientNet("b3", out_indices=(3, 4, 5), frozen_stages=1, drop_path_rate=0.2).train()
        maps = model(torch.rand(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(48, 8, 8), (136, 4, 4), (384, 2, 2)]
    assert [len(layer) for layer in model.layers[1:]] == [2, 3, 3, 10, 8]
    assert frozen(model) == {"layers.0"}
    assert "layers.1.0.expand_conv.conv.weight" not in model.state_dict()
    assert model.state_dict()["layers.2.0.se.conv1.conv.weight"].shape == (6, 144, 1, 1)
    with pytest.raises(ValueError, match="arch must be"):
        EfficientNet("es")
    with pytest.raises(ValueError, match="out_indices"):
        EfficientNet(out_indices=(7,))


def test_a_network_of_timm_names_its_package() -> None:
    if importlib.util.find_spec("timm") is None:
        with pytest.raises(EnvironmentProblem, match=r"fastdet\[timm\]"):
            TIMMBackbone("resnet18")
        return
    model = TIMMBackbone("resnet18", features_only=True, arguments={"out_indices": (1, 2)})
    assert shapes(model) == [(64, 16, 16), (128, 8, 8)]
    with pytest.raises(ValueError, match="timm cannot make"):
        TIMMBackbone("no_such_network")


def tiny_resnet(**changes: object) -> ResNet:
    arguments = {"depth": 50, "base_channels": 8, "num_stages": 2, "strides": (1, 2), "dilations": (1, 1)}
    return ResNet(**(arguments | {"out_indices": (0, 1)} | changes))  # type: ignore[arg-type]


def test_feedback_changes_nothing_at_first() -> None:
    torch.manual_seed(0)
    model = tiny_resnet(rfp_inplanes=6, output_img=True).eval()
    x = torch.rand(1, 3, 64, 64)
    image, *maps = model(x)
    assert image is x
    feedback = [torch.rand(1, 6, 16, 16), torch.rand(1, 6, 8, 8)]
    torch.testing.assert_close(model(x, feedback)[1:], tuple(maps))
    rfp_conv = model.get_submodule("layer2.0.rfp_conv")
    nn.init.constant_(rfp_conv.bias, 100.0)  # type: ignore[arg-type]
    again = model(x, feedback)
    torch.testing.assert_close(again[1], maps[0])
    assert (again[2] - maps[1]).min() > 0
    assert {k for k in model.state_dict() if "rfp" in k} == {"layer2.0.rfp_conv.weight", "layer2.0.rfp_conv.bias"}


def test_detectors_have_switchable_convolutions_in_later_stages() -> None:
    model = tiny_resnet(conv=scaled_standardised_conv(), dcn=switchable_conv(True), stage_with_dcn=(False, True))
    assert isinstance(model.get_submodule("layer2.1.conv2"), SwitchableConv2d)
    assert "layer2.0.conv2.offset_l.bias" in model.state_dict()
    assert "layer1.0.downsample.0.weight_gamma" in model.state_dict()
    assert shapes(model) == [(32, 16, 16), (64, 8, 8)]


def test_trident_branches_share_weights_and_differ_in_dilation() -> None:
    torch.manual_seed(0)
    conv = TridentConv(2, 3, stride=1, dilations=(1, 2, 3), test_branch_idx=1, splits=False)
    x = torch.rand(2, 2, 8, 8)
    branches = conv(x)
    assert branches.shape == (6, 3, 8, 8)
    torch.testing.assert_close(branches[4:], nn.functional.conv2d(x, conv.weight, None, 1, 3, 3))
    torch.testing.assert_close(conv.eval()(x), branches[2:4])


def test_a_trident_network_triples_the_batch_while_training() -> None:
    torch.manual_seed(0)
    model = ResNet(
        50,
        block=trident_bottleneck((1, 2, 3), 1),
        base_channels=8,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        style="caffe",
    )
    x = torch.rand(2, 3, 64, 64)
    training = model.train()(x)[0]
    assert training.shape == (6, 128, 4, 4)
    torch.testing.assert_close(model.eval()(x)[0], training[2:4])  # norms are fixed, the middle branch is tested
    assert set(model.state_dict()) == set(
        ResNet(50, base_channels=8, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)).state_dict()
    )
    with pytest.raises(ValueError, match="test_branch_idx"):
        trident_bottleneck((1, 2), 2)


@pytest.mark.parametrize(
    "make",
    [
        tiny_swin,
        lambda: PyramidVisionTransformer(overlapping=True, embed_dims=8, num_layers=(1, 1, 1, 1)),
        lambda: ConvNeXt("atto", out_indices=(0, 3)),
        lambda: EfficientNet("b0", out_indices=(3, 4)),
        lambda: tiny_resnet(dcn=switchable_conv(True), stage_with_dcn=(False, True)),
    ],
    ids=["swin", "pvt", "convnext", "efficientnet", "sac"],
)
def test_no_shape_depends_on_data(make) -> None:
    with FakeTensorMode():
        maps = make().train()(torch.rand(2, 3, 72, 100))
        assert all(len(level) == 2 for level in maps)
        sum(level.sum() for level in maps).backward()
