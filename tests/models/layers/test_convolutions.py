"""Deformable and standardised convolutions, initial values."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastdet.models.layers import (
    ConvModule,
    ConvWS2d,
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    init_caffe2_xavier,
    init_kaiming,
    init_normal,
    init_torch,
    init_truncated_normal,
)
from fastdet.registry import LAYERS, Spec, build


def test_without_an_offset_deformable_convolutions_are_plain_ones() -> None:
    x = torch.rand(2, 4, 7, 9)
    pack = DeformConv2dPack(4, 6, 3, stride=2, padding=1, groups=2, deform_groups=2)
    expected = F.conv2d(x, pack.weight, stride=2, padding=1, groups=2)
    torch.testing.assert_close(pack(x), expected)
    modulated = ModulatedDeformConv2dPack(4, 6, 3, padding=2, dilation=2)
    nn.init.constant_(modulated.bias, 0.25)
    expected = 0.5 * F.conv2d(x, modulated.weight, padding=2, dilation=2) + 0.25  # factors start at sigmoid(0)
    torch.testing.assert_close(modulated(x), expected)


def test_an_offset_moves_where_cells_are_read() -> None:
    conv = DeformConv2d(1, 1, 1)
    nn.init.ones_(conv.weight)
    x = torch.arange(12.0).view(1, 1, 3, 4)
    offset = torch.zeros(1, 2, 3, 4)
    offset[:, 0], offset[:, 1] = 1, 0.5  # one row down, half a cell right
    out = conv(x, offset)
    assert out[0, 0, 0].tolist() == [4.5, 5.5, 6.5, 3.5]  # the last one reads half of a cell outside: 0
    assert out[0, 0, 2].tolist() == [0, 0, 0, 0]
    assert torch.equal(conv(x, offset, torch.full((1, 1, 3, 4), 0.5)), out / 2)


def test_deformable_keys_are_mmcvs() -> None:
    make = build(Spec.of("DCNv2", deform_groups=2), (LAYERS,))
    shapes = {k: tuple(v.shape) for k, v in make(4, 8, 3, padding=1, bias=False).state_dict().items()}
    assert shapes == {"weight": (8, 4, 3, 3), "conv_offset.weight": (54, 4, 3, 3), "conv_offset.bias": (54,)}
    make = build(Spec.of("DCN"), (LAYERS,))
    assert make(4, 8, 3, bias=False).conv_offset.weight.shape == (18, 4, 3, 3)


def test_a_bias_or_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no bias"):
        DeformConv2dPack(4, 4, 3, bias=True)
    with pytest.raises(ValueError, match="must divide"):
        DeformConv2d(4, 4, 3, deform_groups=3)


def test_gradients_reach_offsets_and_factors() -> None:
    pack = ModulatedDeformConv2dPack(2, 2, 3, padding=1)
    pack(torch.rand(1, 2, 5, 5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pack.parameters())


def test_offsets_keep_their_start_when_a_network_is_initialised() -> None:
    module = nn.Sequential(ConvModule(2, 2, 3, conv=build(Spec.of("DCNv2"), (LAYERS,))), nn.Conv2d(2, 2, 1))
    init_normal(module, 1.0)
    assert module[0].conv.conv_offset.weight.abs().sum() == 0
    assert module[1].weight.abs().sum() > 0


def test_standardised_weights_have_no_mean_and_unit_deviation() -> None:
    conv = ConvWS2d(1, 1, 2, bias=False)
    conv.weight.data = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    deviation = (5 / 3) ** 0.5  # of a sample: squares 5, over 3
    out = conv(torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]]))
    assert out.item() == pytest.approx(1.5 / deviation, rel=1e-4)
    shifted = ConvWS2d(1, 1, 2, bias=False)
    shifted.weight.data = conv.weight.data * 3 + 7
    x = torch.rand(1, 1, 4, 4)
    torch.testing.assert_close(shifted(x), conv(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("initialise", "deviation"),
    [
        (init_kaiming, (2 / (64 * 9)) ** 0.5),
        (init_caffe2_xavier, (1 / (32 * 9)) ** 0.5),
        (init_torch, (1 / (3 * 32 * 9)) ** 0.5),
        (lambda conv: init_truncated_normal(conv, 0.03), 0.03),
        (build(Spec.of("TruncNormalInit", std=0.03), (LAYERS,)), 0.03),
        (build(Spec.of("NormalInit", std=0.2), (LAYERS,)), 0.2),
        (build(Spec.of("XavierInit"), (LAYERS,)), (2 / (96 * 9)) ** 0.5),
        (build(Spec.of("Caffe2XavierInit"), (LAYERS,)), (1 / (32 * 9)) ** 0.5),
    ],
)
def test_initial_values_have_their_deviation(initialise, deviation: float) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 64, 3)
    initialise(conv)
    assert conv.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert conv.bias.abs().sum() == 0


def test_a_leaky_activation_narrows_the_start() -> None:
    torch.manual_seed(0)
    conv = ConvModule(32, 64, 3, act=build(Spec.of("LeakyReLU", negative_slope=1.0), (LAYERS,))).conv
    assert conv.weight.std().item() == pytest.approx((1 / (64 * 9)) ** 0.5, rel=0.02)
