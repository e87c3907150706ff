"""Norm factories and the conv module: names, gradients, biases."""

import pytest
import torch
from torch import nn

from fastdet.models.layers import ConvModule, DepthwiseSeparableConv, prior_bias
from fastdet.models.layers.norm import batch_norm, group_norm, sync_batch_norm
from fastdet.registry import LAYERS, Spec, build


def test_keys_name_the_kind_of_normalisation() -> None:
    assert set(ConvModule(2, 4, 3, norm=group_norm(2)).state_dict()) == {"conv.weight", "gn.weight", "gn.bias"}
    assert "bn.running_mean" in ConvModule(2, 4, 3, norm=batch_norm()).state_dict()
    assert isinstance(ConvModule(2, 4, 3, norm=sync_batch_norm()).norm, nn.SyncBatchNorm)
    assert set(ConvModule(2, 4, 3).state_dict()) == {"conv.weight", "conv.bias"}


def test_a_spec_builds_the_factory_that_a_part_calls() -> None:
    norm = build(Spec.of("BN", requires_grad=False, eps=1e-3), (LAYERS,))
    layer = norm(8)
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.eps == 1e-3
    assert not any(p.requires_grad for p in layer.parameters())


def test_the_order_is_convolution_norm_relu() -> None:
    module = ConvModule(1, 1, 1, norm=batch_norm()).eval()
    nn.init.constant_(module.conv.weight, 2.0)
    assert module.norm is not None
    nn.init.constant_(module.norm.bias, -1.0)
    x = torch.tensor([[[[1.0, -1.0]]]])
    assert module(x).flatten().tolist() == pytest.approx([1.0, 0.0], abs=1e-4)
    module.activate = None
    assert module(x).flatten().tolist() == pytest.approx([1.0, -3.0], abs=1e-4)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match=r"num_groups \(32\) must divide .* \(48\)"):
        group_norm(32)(48)


def test_the_prior_bias_is_the_logit_of_the_probability() -> None:
    assert torch.tensor(prior_bias(0.01)).sigmoid().item() == pytest.approx(0.01)


def test_the_activation_is_the_factorys() -> None:
    leaky = build(Spec.of("LeakyReLU", negative_slope=0.1), (LAYERS,))
    module = ConvModule(1, 1, 1, act=leaky)
    nn.init.constant_(module.conv.weight, 2.0)
    assert module(torch.tensor([[[[1.0, -1.0]]]])).flatten().tolist() == pytest.approx([2.0, -0.2])
    assert isinstance(ConvModule(1, 1, 1, act=build(Spec.of("Swish"), (LAYERS,))).activate, nn.SiLU)


def test_the_order_may_differ() -> None:
    module = ConvModule(2, 1, 1, norm=batch_norm(), order=("act", "norm", "conv"), bias=True).eval()
    assert module.norm is not None
    assert set(module.state_dict()) >= {"conv.bias", "bn.weight"}
    assert module.norm.weight.shape == (2,)
    nn.init.constant_(module.conv.weight, -1.0)
    assert module(torch.full((1, 2, 1, 1), -3.0)).item() == 0.0
    assert module(torch.full((1, 2, 1, 1), 3.0)).item() == pytest.approx(-6.0, abs=1e-3)
    with pytest.raises(ValueError, match="order must hold"):
        ConvModule(1, 1, 1, order=("conv", "act"))


def test_a_separable_convolution_mixes_space_before_channels() -> None:
    module = DepthwiseSeparableConv(4, 6, 3, stride=2, padding=1, norm=batch_norm())
    assert module(torch.rand(1, 4, 8, 8)).shape == (1, 6, 4, 4)
    assert module.depthwise_conv.conv.weight.shape == (4, 1, 3, 3)
    assert module.pointwise_conv.conv.weight.shape == (6, 4, 1, 1)
