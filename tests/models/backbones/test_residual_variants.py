"""ResNeXt, Res2Net, ResNeSt, RegNet; deformable convolutions and plugins in residual networks."""

import pytest
import torch
from torch import nn

from fastdet.models.backbones import RegNet, RegNetArch, ResNet
from fastdet.models.backbones.blocks import grouped_bottleneck
from fastdet.models.backbones.regnet import ARCHS
from fastdet.models.backbones.res2net import res2net_bottleneck
from fastdet.models.backbones.resnest import SplitAttentionConv, resnest_bottleneck
from fastdet.models.layers import DeformConv2dPack
from fastdet.models.layers.context import context_block
from fastdet.models.layers.deform_conv import deformable_conv
from fastdet.models.layers.norm import batch_norm, group_norm, sync_batch_norm
from fastdet.models.layers.plugin import BlockPlugin
from fastdet.models.layers.standardised_conv import standardised_conv


def shapes(model: nn.Module, size: int = 64) -> list[tuple[int, ...]]:
    return [tuple(m.shape[1:]) for m in model.eval()(torch.rand(1, 3, size, size))]


def tiny(**changes: object) -> ResNet:
    arguments = {"depth": 50, "base_channels": 8, "num_stages": 2, "strides": (1, 2), "dilations": (1, 1)}
    return ResNet(**(arguments | {"out_indices": (0, 1)} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["resnext50_32x4d", "resnext101_32x8d"])
def test_resnext_has_torchvisions_keys_and_numbers(name: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    depth, width = (50, 4) if "50" in name else (101, 8)
    with torch.device("meta"):
        model = ResNet(depth=depth, block=grouped_bottleneck(32, width))
        other = getattr(torchvision.models, name)()
    own = {k: v.shape for k, v in model.state_dict().items()}
    assert own == {k: v.shape for k, v in other.state_dict().items() if not k.startswith("fc.")}


def test_resnext_computes_what_torchvisions_does() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    other = torchvision.models.resnext50_32x4d().eval()
    model = ResNet(depth=50, block=grouped_bottleneck(32, 4)).eval()
    model.load_state_dict({k: v for k, v in other.state_dict().items() if not k.startswith("fc.")})
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(other.fc(model(x)[-1].mean((2, 3))), other(x), rtol=1e-4, atol=1e-5)


def test_res2net_splits_its_middle_channels() -> None:
    block = res2net_bottleneck(scales=4, base_width=26)
    model = tiny(block=block, base_channels=64, deep_stem=True, avg_down=True)
    keys = model.state_dict()
    assert keys["layer1.0.conv1.weight"].shape == (104, 64, 1, 1)
    assert keys["layer1.0.convs.2.weight"].shape == (26, 26, 3, 3)
    assert keys["layer2.0.bns.1.weight"].shape == (52,)
    assert not any("conv2" in k or "bn2" in k for k in keys)
    assert shapes(model) == [(256, 16, 16), (512, 8, 8)]


def test_a_later_res2net_part_sees_the_one_before() -> None:
    model = tiny(block=res2net_bottleneck(scales=2, base_width=32), base_channels=64)
    later = model.get_submodule("layer1.1")
    later.bns[0].eval()
    x = torch.rand(1, 64, 4, 4)
    first, last = x.split(32, 1)
    expected = torch.cat((torch.relu(later.bns[0](later.convs[0](first))), last), 1)
    torch.testing.assert_close(later._chain(x), expected)
    with pytest.raises(ValueError, match="two scales"):
        res2net_bottleneck(scales=1)


def test_resnest_blends_maps_with_weights_that_sum_to_one() -> None:
    conv = SplitAttentionConv(
        8,
        stride=1,
        pool_stride=2,
        dilation=1,
        groups=2,
        radix=2,
        reduction_factor=4,
        conv=nn.Conv2d,
        norm=batch_norm(),
    )
    weights = conv._weights(torch.randn(3, 16, 1, 1))
    assert weights.shape == (3, 2, 8, 1, 1)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 8, 1, 1))
    assert conv(torch.rand(2, 8, 6, 6)).shape == (2, 8, 3, 3)
    assert set(conv.state_dict()) >= {"conv.weight", "bn0.weight", "fc1.bias", "bn1.weight", "fc2.bias"}
    assert conv.state_dict()["fc1.weight"].shape == (32, 4, 1, 1)


def test_a_resnest_of_radix_one_gates_its_map() -> None:
    model = tiny(block=resnest_bottleneck(radix=1), deep_stem=True, avg_down=True)
    assert shapes(model) == [(32, 16, 16), (64, 8, 8)]
    assert not any("bn2" in k for k in model.state_dict())


def test_regnet_has_the_published_widths_and_depths() -> None:
    large, small = ARCHS["regnetx_3.2gf"], ARCHS["regnetx_400mf"]
    assert [(large.fitted(w)[0], blocks) for w, blocks in large.stages()] == [(96, 2), (192, 6), (432, 15), (1008, 2)]
    assert [(small.fitted(w)[0], blocks) for w, blocks in small.stages()] == [(32, 1), (64, 2), (160, 7), (384, 12)]
    assert RegNetArch(88, 26.31, 2.25, 48, 25, bot_mul=0.5).fitted(96) == (96, 48, 1)


def test_a_regnet_halves_the_size_five_times() -> None:
    model = RegNet("regnetx_400mf", frozen_stages=1).train()
    assert shapes(model) == [(32, 16, 16), (64, 8, 8), (160, 4, 4), (384, 2, 2)]
    frozen = {k.split(".")[0] for k, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    assert not model.train().get_submodule("layer2.0.bn1").training
    with pytest.raises(ValueError, match="regnetx_400mf"):
        RegNet("regnety")
    with pytest.raises(ValueError, match="strides needs a value for each of the 4 stages"):
        RegNet("regnetx_400mf", strides=(2, 2))


def test_deformable_convolutions_stand_in_the_stages_asked_for() -> None:
    model = tiny(dcn=deformable_conv(), stage_with_dcn=(False, True))
    assert isinstance(model.get_submodule("layer2.1.conv2"), DeformConv2dPack)
    assert isinstance(model.get_submodule("layer1.1.conv2"), nn.Conv2d)
    assert model.state_dict()["layer2.0.conv2.conv_offset.weight"].abs().sum() == 0
    assert shapes(model) == [(32, 16, 16), (64, 8, 8)]


def test_a_plugin_stands_where_it_is_put() -> None:
    plugins = [
        BlockPlugin(context_block(0.5), "after_conv3", (False, True)),
        BlockPlugin(context_block(0.5), "after_conv2", (False, True), postfix=1),
    ]
    model = tiny(plugins=plugins)
    keys = model.state_dict()
    assert keys["layer2.0.context_block.conv_mask.weight"].shape == (1, 64, 1, 1)
    assert keys["layer2.0.context_block1.conv_mask.weight"].shape == (1, 16, 1, 1)
    assert not any(k.startswith("layer1") and "context" in k for k in keys)
    assert shapes(model) == [(32, 16, 16), (64, 8, 8)]


def test_a_plugin_that_starts_as_the_identity_changes_nothing() -> None:
    torch.manual_seed(0)
    model = tiny(plugins=[BlockPlugin(context_block(0.5), "after_conv3")])
    plain = tiny()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "context" not in k})
    x = torch.rand(1, 3, 32, 32)
    for a, b in zip(model.eval()(x), plain.eval()(x), strict=True):
        torch.testing.assert_close(a, b)


def test_standardised_weights_with_group_norm() -> None:
    model = tiny(conv=standardised_conv(), norm=group_norm(4))
    assert set(model.state_dict()) == set(tiny(norm=group_norm(4)).state_dict())
    assert shapes(model) == [(32, 16, 16), (64, 8, 8)]


def test_synchronised_norms_run_in_one_process() -> None:
    model = tiny(norm=sync_batch_norm(), norm_eval=False).train()
    model(torch.rand(2, 3, 32, 32))[-1].sum().backward()
    assert model.get_submodule("layer1.0.bn1").num_batches_tracked == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 18, "block": grouped_bottleneck(32, 4)}, "no bottlenecks"),
        ({"depth": 18, "dcn": deformable_conv(), "stage_with_dcn": (True, True)}, "neither dcn nor plugins"),
        ({"dcn": deformable_conv(), "stage_with_dcn": (True,)}, "stage_with_dcn"),
        ({"plugins": [BlockPlugin(context_block(0.5), "after_conv4")]}, "after_conv3"),  # type: ignore[arg-type]
        ({"plugins": [BlockPlugin(context_block(0.5), "after_conv3", (True,))]}, "stages of a plugin"),
        ({"plugins": [BlockPlugin(context_block(0.5), "after_conv3")] * 2}, "postfix"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        tiny(**changes)
