"""Predictors that compare directions: features and weights have length 1, times a temperature.

Letters: R rows, C channels, B images, H and W cells.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.registry import LAYERS

LinearFactory = Callable[[int, int], nn.Module]
"""Makes a layer of that many inputs and outputs that is used like `nn.Linear` (or like a 1x1 `nn.Conv2d`)."""


class NormedLinear(nn.Linear):
    """A linear layer of directions. Keys: weight, bias.

    Source: Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, section 3.4; Wang et al., CosFace, eq. 1.

    Args:
        temperature: length that features get.
        power: exponent of the lengths that features and weights are divided by.
        eps: added to these.
    """

    def __init__(
        self, in_features: int, out_features: int, *, temperature: float = 20, power: float = 1.0, eps: float = 1e-6
    ) -> None:
        super().__init__(in_features, out_features)
        self.temperature, self.power, self.eps = temperature, power, eps
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[R, in_features] -> [R, out_features]."""
        weight = _directed(self.weight, self.power, self.eps)
        return F.linear(_directed(x, self.power, self.eps) * self.temperature, weight, self.bias)


class NormedConv2d(nn.Conv2d):
    """A 1x1 convolution of directions. Keys: weight, bias. Arguments and source: NormedLinear's."""

    def __init__(
        self, in_channels: int, out_channels: int, *, temperature: float = 20, power: float = 1.0, eps: float = 1e-6
    ) -> None:
        super().__init__(in_channels, out_channels, 1)
        self.temperature, self.power, self.eps = temperature, power, eps

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H, W]."""
        weight = _directed(self.weight, self.power, self.eps)
        return F.conv2d(_directed(x, self.power, self.eps) * self.temperature, weight, self.bias)


def _directed(x: Tensor, power: float, eps: float) -> Tensor:
    """Vectors along dimension 1, divided by their lengths."""
    return x / (x.norm(dim=1, keepdim=True).pow(power) + eps)


@LAYERS.register("NormedLinear")
def normed_linear(tempearture: float = 20, power: float = 1.0, eps: float = 1e-6) -> LinearFactory:
    """The factory of NormedLinear; the first argument is spelled as configs spell it."""
    return partial(NormedLinear, temperature=tempearture, power=power, eps=eps)


@LAYERS.register("NormedConv2d")
def normed_conv(tempearture: float = 20, power: float = 1.0, eps: float = 1e-6) -> LinearFactory:
    """The factory of NormedConv2d; the first argument is spelled as configs spell it."""
    return partial(NormedConv2d, temperature=tempearture, power=power, eps=eps)
