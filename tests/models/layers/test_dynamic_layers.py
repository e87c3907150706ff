"""Layers whose weights depend on the input or are standardised: CARAFE, gates, DyReLU, SAC, ConvAWS, "SAME" padding."""

import pytest
import torch
from torch import nn

from fastdet.models.layers import (
    CarafeUpsample,
    ChannelGate,
    ConvAWS2d,
    DynamicReLU,
    SamePaddingConv2d,
    SwitchableConv2d,
    init_kaiming,
)
from fastdet.models.layers.carafe import reassemble
from fastdet.models.layers.standardised_conv import scales_of
from fastdet.registry import LAYERS, Spec, build


def test_a_kernel_of_its_own_is_laid_over_every_cell() -> None:
    x = torch.arange(1.0, 5.0).view(1, 1, 2, 2)
    kernels = torch.zeros(1, 9, 4, 4)
    kernels[:, 4] = 1  # the centre ...
    kernels[:, 5, 0, 1] = 2  # ... and twice the right neighbour for one fine cell
    kernels[:, 1, 0, 0] = 7  # nothing lies above the first row
    fine = reassemble(x, kernels, 3, 1, 2)
    expected = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected[0, 0, 0, 1] = 1 + 2 * 2
    torch.testing.assert_close(fine, expected)


def test_groups_of_channels_have_kernels_of_their_own() -> None:
    x = torch.rand(2, 4, 3, 5)
    kernels = torch.rand(2, 2 * 9, 6, 10)
    both = reassemble(x, kernels, 3, 2, 2)
    torch.testing.assert_close(both[:, 2:], reassemble(x[:, 2:], kernels[:, 9:], 3, 1, 2))


def test_carafe_keeps_a_constant_map_away_from_the_border() -> None:
    torch.manual_seed(0)
    layer = CarafeUpsample(4, 2, compressed_channels=3)
    init_kaiming(layer)  # the network around it leaves its start alone
    assert layer.content_encoder.weight.std() < 0.002
    out = layer(torch.ones(1, 4, 8, 8))
    assert out.shape == (1, 4, 16, 16)
    torch.testing.assert_close(out[:, :, 4:12, 4:12], torch.ones(1, 4, 8, 8))
    assert set(layer.state_dict()) == {
        f"{n}.{k}" for n in ("channel_compressor", "content_encoder") for k in ("weight", "bias")
    }
    assert build(Spec.of("Carafe", up_kernel=3), (LAYERS,))(4, 2).up_kernel == 3
    with pytest.raises(ValueError, match="up_kernel must be odd"):
        CarafeUpsample(4, 2, up_kernel=4)


def test_a_gate_weights_channels_by_their_means() -> None:
    gate = ChannelGate(2, 1, act=nn.SiLU)
    for conv, value in ((gate.conv1.conv, 1.0), (gate.conv2.conv, 0.5)):
        nn.init.constant_(conv.weight, value)
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])  # means 2 and 1
    opened = (0.5 * nn.functional.silu(torch.tensor(3.0))).sigmoid()
    torch.testing.assert_close(gate(x), x * opened)


def test_a_dynamic_relu_that_predicts_nothing_is_a_relu() -> None:
    layer = DynamicReLU(4)
    nn.init.zeros_(layer.conv2.conv.weight)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(layer(x), x.relu())
    nn.init.constant_(layer.conv2.conv.bias, 3.0)  # all predictions 1/2: slopes 2 and 1, offsets 1/2
    torch.testing.assert_close(layer(x), torch.maximum(2 * x + 0.5, x + 0.5))


def test_weights_without_scales_stay_what_they_were() -> None:
    conv, plain = ConvAWS2d(3, 4, 3, bias=False), nn.Conv2d(3, 4, 3, bias=False)
    found = conv.load_state_dict(plain.state_dict())
    assert not found.missing_keys
    torch.testing.assert_close(conv.standardised(), plain.weight)
    own = conv.state_dict() | {"weight_gamma": torch.full((4, 1, 1, 1), 2.0)}
    conv.load_state_dict(own)
    assert (conv.weight_gamma == 2).all()


def test_scaled_weights_are_what_they_were_with_their_own_scales() -> None:
    torch.manual_seed(0)
    conv, plain = ConvAWS2d(3, 4, 3, padding=1, bias=False), nn.Conv2d(3, 4, 3, padding=1, bias=False)
    assert conv.standardised().mean((1, 2, 3)).abs().max() < 1e-6
    plain.load_state_dict({"weight": conv.weight})
    conv.weight_beta, conv.weight_gamma = (scale.detach() for scale in scales_of(conv.weight))
    x = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(conv(x), plain(x))
    assert {"weight", "weight_gamma", "weight_beta"} == set(conv.state_dict())


@pytest.mark.parametrize("use_deform", [False, True])
def test_a_new_switch_takes_the_small_dilation_alone(use_deform: bool) -> None:
    torch.manual_seed(0)
    conv = SwitchableConv2d(3, 4, 3, stride=2, padding=1, use_deform=use_deform)
    init_kaiming(conv.switch)
    x = torch.rand(2, 3, 9, 8)
    near = nn.functional.conv2d(x, conv.standardised(), None, 2, 1)
    torch.testing.assert_close(conv(x), near)
    nn.init.zeros_(conv.switch.bias)
    nn.init.constant_(conv.weight_diff, 0.1)
    far = nn.functional.conv2d(x, conv.standardised() + 0.1, None, 2, 3, 3)
    torch.testing.assert_close(conv(x), far)


def test_contexts_add_what_the_whole_map_says() -> None:
    conv = SwitchableConv2d(2, 2, 3, padding=1)
    x = torch.rand(1, 2, 6, 6)
    before = conv(x)
    nn.init.constant_(conv.post_context.bias, 2.0)
    torch.testing.assert_close(conv(x), before + 2)
    nn.init.constant_(conv.pre_context.bias, 1.0)
    conv.post_context.bias.data.zero_()
    fresh = SwitchableConv2d(2, 2, 3, padding=1)
    fresh.load_state_dict(conv.state_dict() | {"pre_context.bias": torch.zeros(2)})
    torch.testing.assert_close(conv(x), fresh(x + 1))
    with pytest.raises(ValueError, match="3x3 convolution without bias"):
        SwitchableConv2d(2, 2, 1)


def test_same_padding_keeps_every_stride_th_cell() -> None:
    conv = SamePaddingConv2d(1, 1, 3, stride=2, padding=1, bias=False)
    nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 1, 1] = 1
    x = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 5, 5)
    assert conv(x)[0, 0, 0].tolist() == [0, 2, 4]  # a zero at either side
    even = conv(x[..., :4, :4])
    assert even[0, 0, 0].tolist() == [1, 3]  # one zero at the right alone


def test_convolutions_are_built_from_specs() -> None:
    for name, kind in (("ConvAWS", ConvAWS2d), ("Conv2dAdaptivePadding", SamePaddingConv2d)):
        assert isinstance(build(Spec.of(name), (LAYERS,))(2, 2, 3), kind)
    assert build(Spec.of("SAC", use_deform=True), (LAYERS,))(2, 2, 3).use_deform
