"""Predictors of directions."""

import pytest
import torch
from torch import nn

from fastdet.models.layers.normed import NormedConv2d, NormedLinear


def test_the_lengths_of_features_and_weights_do_not_count() -> None:
    layer = NormedLinear(2, 1, temperature=10)
    nn.init.constant_(layer.bias, 1.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
    x = torch.tensor([[7.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    assert layer(x)[:, 0].tolist() == pytest.approx([7.0, 9.0, 1.0], rel=1e-4)  # 10 * 3 / 5 + 1, 10 * 4 / 5 + 1


def test_the_convolution_is_the_linear_layer_at_every_cell() -> None:
    torch.manual_seed(0)
    conv, linear = NormedConv2d(3, 2, power=0.5), NormedLinear(3, 2, power=0.5)
    linear.load_state_dict({"weight": conv.weight[..., 0, 0], "bias": conv.bias})
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(conv(x)[1, :, 2, 3], linear(x[1:, :, 2, 3])[0])
