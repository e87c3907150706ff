"""ResNet: variants, keys, freezing."""

import pytest
import torch
from torch import nn

from fastdet.models.backbones import ResNet
from fastdet.models.layers.norm import batch_norm, group_norm


def tiny(**changes: object) -> ResNet:
    return ResNet(**({"depth": 18, "base_channels": 8, "zero_init_residual": False} | changes))  # type: ignore[arg-type]


def test_it_gives_four_maps_alone() -> None:
    maps = ResNet(depth=18).eval()(torch.rand(1, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(1, 64, 8, 8), (1, 128, 4, 4), (1, 256, 2, 2), (1, 512, 1, 1)]


def test_odd_sizes_round_up() -> None:
    maps = tiny()(torch.rand(1, 3, 33, 47))
    assert [tuple(m.shape[2:]) for m in maps] == [(9, 12), (5, 6), (3, 3), (2, 2)]


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11.7), (34, 21.8), (50, 25.6), (101, 44.5), (152, 60.2)])
def test_depths_have_the_published_sizes(depth: int, parameters: float) -> None:
    with torch.device("meta"):
        model = ResNet(depth=depth)
    width = 512 if depth < 50 else 2048
    count = sum(p.numel() for p in model.parameters()) + width * 1000 + 1000  # with the classifier
    assert count / 1e6 == pytest.approx(parameters, abs=0.05)


def test_keys_are_torchvisions() -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        own = {k: v.shape for k, v in ResNet(depth=50).state_dict().items()}
        other = {k: v.shape for k, v in torchvision.models.resnet50().state_dict().items() if not k.startswith("fc.")}
    assert own == other


def test_it_computes_what_torchvisions_does() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    other = torchvision.models.resnet18().eval()
    model = ResNet(depth=18).eval()
    model.load_state_dict({k: v for k, v in other.state_dict().items() if not k.startswith("fc.")})
    x = torch.rand(1, 3, 64, 64)
    expected = other.fc(model(x)[-1].mean((2, 3)))
    torch.testing.assert_close(expected, other(x), rtol=1e-4, atol=1e-5)


def test_the_stride_stands_where_the_style_says() -> None:
    with torch.device("meta"):
        caffe, pytorch = ResNet(depth=50, style="caffe"), ResNet(depth=50)
    strides = [
        (m.get_submodule("layer2.0.conv1").stride, m.get_submodule("layer2.0.conv2").stride) for m in (caffe, pytorch)
    ]
    assert strides == [((2, 2), (1, 1)), ((1, 1), (2, 2))]


def test_a_deep_stem_and_pooled_shortcuts_have_their_own_keys() -> None:
    keys = set(tiny(deep_stem=True, avg_down=True).state_dict())
    assert {"stem.0.weight", "stem.1.weight", "stem.3.weight", "stem.6.weight", "stem.7.bias"} <= keys
    assert "layer2.0.downsample.1.weight" in keys  # 0 is the pooling
    assert "layer2.0.downsample.2.weight" in keys
    assert not any(k.startswith("conv1") for k in keys)
    assert tiny(deep_stem=True, avg_down=True).eval()(torch.rand(1, 3, 32, 32))[-1].shape == (1, 64, 1, 1)


def test_group_norm_names_its_keys() -> None:
    keys = set(tiny(norm=group_norm(4)).state_dict())
    assert {"gn1.weight", "layer1.0.gn2.bias", "layer2.0.downsample.1.weight"} <= keys


def test_fewer_stages_and_dilation() -> None:
    model = ResNet(
        depth=50,
        num_stages=3,
        strides=(1, 2, 1),
        dilations=(1, 1, 2),
        out_indices=(2,),
        base_channels=4,
        stem_channels=6,
    )
    (last,) = model(torch.rand(1, 3, 64, 64))
    assert last.shape == (1, 64, 8, 8)
    assert model.get_submodule("layer3.1.conv2").dilation == (2, 2)
    assert model.conv1.out_channels == 6


def test_frozen_stages_get_no_gradient_and_stay_in_eval_mode() -> None:
    model = tiny(frozen_stages=1, norm_eval=False).train()
    model(torch.rand(2, 3, 32, 32))[-1].sum().backward()
    frozen = {k for k, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {k for k, _ in model.named_parameters() if k.startswith(("conv1", "bn1", "layer1"))}
    assert not model.get_submodule("bn1").training
    assert not model.get_submodule("layer1").training
    assert model.get_submodule("layer2.0.bn1").training
    assert model.get_submodule("layer2.0.conv1").weight.grad is not None


def test_norm_eval_keeps_all_statistics() -> None:
    model = tiny(norm_eval=True).train()
    assert model.training
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(p.requires_grad for p in model.parameters())
    assert tiny(norm_eval=False).train().get_submodule("bn1").training


def test_recomputation_changes_no_gradient() -> None:
    x = torch.rand(1, 3, 32, 32)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(1)
        model = tiny(with_cp=with_cp).train()
        torch.stack([m.square().mean() for m in model(x)]).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=0, atol=0)


def test_the_last_norm_of_a_block_starts_at_zero_if_asked() -> None:
    model = tiny(zero_init_residual=True)
    assert model.get_submodule("layer1.0.bn2").weight.abs().sum() == 0
    assert model.get_submodule("layer1.0.bn1").weight.min() == 1
    assert tiny().get_submodule("layer1.0.bn2").weight.min() == 1


def test_frozen_norms_keep_their_scale() -> None:
    model = tiny(norm=batch_norm(requires_grad=False))
    assert not model.get_submodule("layer1.0.bn1").weight.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 20}, "18, 34, 50, 101, 152"),
        ({"num_stages": 3}, "strides needs a value for each of the 3 stages"),
        ({"out_indices": (4,)}, "out_indices"),
        ({"style": "tensorflow"}, "style"),
        ({"frozen_stages": 5}, "frozen_stages"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)
