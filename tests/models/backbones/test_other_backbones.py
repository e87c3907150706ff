"""HRNet, MobileNetV2, SSDVGG, Darknet, CSPDarknet, CSPNeXt: maps, keys, freezing."""

import pytest
import torch
from torch import nn

from fastdet.models.backbones import SSDVGG, Darknet, HRNet, HRStage, MobileNetV2, csp_darknet, csp_next
from fastdet.models.backbones.csp_darknet import Focus
from fastdet.models.layers.init import truncated_normal_initialiser
from fastdet.models.layers.norm import batch_norm


def shapes(model: nn.Module, size: int = 64) -> list[tuple[int, ...]]:
    return [tuple(m.shape[1:]) for m in model.eval()(torch.rand(1, 3, size, size))]


def frozen(model: nn.Module) -> set[str]:
    return {k.split(".")[0] for k, p in model.named_parameters() if not p.requires_grad}


def tiny_hrnet(**changes: object) -> HRNet:
    stages = [
        HRStage(1, "BOTTLENECK", (1,), (4,)),
        HRStage(1, "BASIC", (1, 1), (4, 8)),
        HRStage(2, "BASIC", (1, 1, 1), (4, 8, 16)),
        HRStage(1, "BASIC", (1, 1, 1, 1), (4, 8, 16, 32)),
    ]
    return HRNet(stages, **changes)  # type: ignore[arg-type]


def test_an_hrnet_keeps_four_resolutions() -> None:
    model = tiny_hrnet()
    assert shapes(model) == [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2)]
    keys = set(model.state_dict())
    assert {"conv2.weight", "bn2.bias", "layer1.0.downsample.0.weight", "transition1.0.0.weight"} <= keys
    assert {"transition1.1.0.0.weight", "transition3.3.0.1.bias", "stage3.1.branches.2.0.conv2.weight"} <= keys
    assert {"stage4.0.fuse_layers.0.3.0.weight", "stage4.0.fuse_layers.3.0.2.0.weight"} <= keys
    assert "transition2.0.0.weight" not in keys  # as wide as before


def test_an_hrnet_may_give_its_finest_map_alone() -> None:
    model = tiny_hrnet(multiscale_output=False)
    assert shapes(model) == [(4, 16, 16)]
    assert not model.train().get_submodule("bn1").training
    assert tiny_hrnet(norm_eval=False).train().get_submodule("bn1").training


def test_branches_without_a_counterpart_are_refused() -> None:
    with pytest.raises(ValueError, match="each branch"):
        HRStage(1, "BASIC", (1, 1), (4,))
    with pytest.raises(ValueError, match="BOTTLENECK"):
        HRStage(1, "WIDE", (1,), (4,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="four stages"):
        HRNet([HRStage(1, "BASIC", (1,), (4,))])


def test_a_mobilenet_has_torchvisions_numbers() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    other = torchvision.models.mobilenet_v2().features.eval()
    model = MobileNetV2(out_indices=(7,), norm=batch_norm()).eval()
    values = [v for k, v in other.state_dict().items()]
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))  # the same layers in the same order
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model(x)[0], other(x), rtol=1e-4, atol=1e-5)


def test_mobilenet_stages_widths_and_freezing() -> None:
    model = MobileNetV2(widen_factor=0.5, out_indices=(1, 2, 4, 7), frozen_stages=2).train()
    assert shapes(model) == [(16, 16, 16), (16, 8, 8), (48, 4, 4), (1280, 2, 2)]
    assert frozen(model) == {"conv1", "layer1", "layer2"}
    model.train()
    assert model.get_submodule("conv1.bn").training
    assert not model.get_submodule("layer1.0.linear_conv.bn").training
    assert "layer1.0.expand_conv.conv.weight" not in model.state_dict()
    with pytest.raises(ValueError, match="out_indices"):
        MobileNetV2(out_indices=(8,))


def test_a_mobilenet_may_start_in_another_way() -> None:
    torch.manual_seed(0)
    model = MobileNetV2(init=truncated_normal_initialiser(0.03))
    assert model.conv2.conv.weight.std().item() == pytest.approx(0.03, rel=0.02)


def test_ssd_reads_vgg_at_two_layers() -> None:
    with torch.device("meta"):
        model = SSDVGG(16)
        maps = model(torch.rand(1, 3, 300, 300))
    assert [tuple(m.shape[1:]) for m in maps] == [(512, 38, 38), (1024, 19, 19)]
    assert model.state_dict()["features.31.weight"].shape == (1024, 512, 3, 3)
    assert model.state_dict()["features.33.weight"].shape == (1024, 1024, 1, 1)
    with pytest.raises(ValueError, match="11, 13, 16, 19"):
        SSDVGG(17)
    with pytest.raises(ValueError, match="out_feature_indices"), torch.device("meta"):
        SSDVGG(11, out_feature_indices=(99,))


def test_darknet_gives_three_maps() -> None:
    with torch.device("meta"):
        model = Darknet(frozen_stages=2).train()
        maps = model(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(256, 8, 12), (512, 4, 6), (1024, 2, 3)]
    assert frozen(model) == {"conv1", "conv_res_block1"}
    assert "conv_res_block3.res7.conv2.bn.weight" in model.state_dict()
    with pytest.raises(ValueError, match="53"):
        Darknet(19)


def test_focus_puts_the_four_pixels_of_a_square_side_by_side() -> None:
    focus = Focus(12, norm=batch_norm(), act=nn.Identity).eval()
    focus.conv.conv.weight.data = torch.zeros(12, 12, 3, 3)
    focus.conv.conv.weight.data[:, :, 1, 1] = torch.eye(12)
    x = torch.arange(4.0).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    found = focus(x).flatten().tolist()
    assert found == pytest.approx([0, 0, 0, 2, 2, 2, 1, 1, 1, 3, 3, 3], abs=1e-4)  # down before right


def test_csp_networks_have_their_sizes() -> None:
    tiny = csp_darknet(widen_factor=0.125, deepen_factor=0.33)
    assert shapes(tiny) == [(32, 8, 8), (64, 4, 4), (128, 2, 2)]
    assert "stage4.1.conv1.conv.weight" in tiny.state_dict()  # the pooling pyramid
    six = csp_next(arch="P6", widen_factor=0.125, deepen_factor=0.167, out_indices=(2, 5))
    assert shapes(six, 128) == [(32, 16, 16), (128, 2, 2)]
    assert "stage1.1.attention.fc.weight" in six.state_dict()
    assert "stage1.1.blocks.0.conv2.depthwise_conv.conv.weight" in six.state_dict()
    nano = csp_darknet(widen_factor=0.125, deepen_factor=0.33, use_depthwise=True)
    assert "stage1.0.depthwise_conv.bn.weight" in nano.state_dict()


def test_csp_stages_freeze() -> None:
    model = csp_darknet(widen_factor=0.125, deepen_factor=0.33, frozen_stages=1, norm_eval=True).train()
    assert frozen(model) == {"stem", "stage1"}
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    with pytest.raises(ValueError, match="arch must be"):
        csp_darknet(arch="P4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frozen_stages"):
        csp_darknet(widen_factor=0.125, frozen_stages=5)
