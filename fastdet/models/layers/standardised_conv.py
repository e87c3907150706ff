"""Convolutions that standardise their weights in every forward pass."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers.conv_module import ConvFactory
from fastdet.registry import LAYERS

AXES = (1, 2, 3)
EPS = 1e-5


class ConvWS2d(nn.Conv2d):
    """A convolution whose weights have mean 0 and deviation 1 for each output channel.

    The deviation is that of a sample (over n - 1), and `eps` is added to it, not to the variance: as MMDetection's
    checkpoints were trained. Key: weight, as of a plain convolution.
    Source: Qiao et al., Micro-Batch Training with Batch-Channel Normalization and Weight Standardization.
    """

    eps: float = EPS

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H', W']."""
        centred = self.weight - self.weight.mean(AXES, keepdim=True)
        weight = centred / (self.weight.std(AXES, keepdim=True) + self.eps)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvAWS2d(nn.Conv2d):
    """A convolution whose weights are standardised, then brought to a fixed scale and shift for each output channel.

    Weights that were trained without standardisation stay as they were: a state dict without scale and shift is loaded
    with those that do so. Here `eps` is added to the variance. Keys: weight, bias, weight_gamma, weight_beta.
    Source: Qiao et al., DetectoRS, section 5 (implementation details).
    """

    weight_gamma: Tensor
    weight_beta: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.register_buffer("weight_gamma", torch.ones(out_channels, 1, 1, 1))
        self.register_buffer("weight_beta", torch.zeros(out_channels, 1, 1, 1))

    def standardised(self) -> Tensor:
        """The weights as they are used."""
        mean, deviation = scales_of(self.weight)
        return self.weight_gamma * (self.weight - mean) / deviation + self.weight_beta

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        scales = [f"{prefix}weight_gamma", f"{prefix}weight_beta"]
        if f"{prefix}weight" in state_dict and not any(name in state_dict for name in scales):
            mean, deviation = scales_of(self.weight.detach())
            self.weight_gamma.copy_(deviation)
            self.weight_beta.copy_(mean)
            missing_keys[:] = [name for name in missing_keys if name not in scales]

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H', W']."""
        return F.conv2d(x, self.standardised(), self.bias, self.stride, self.padding, self.dilation, self.groups)


def scales_of(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each output channel's weights, [out_channels, 1, 1, 1]."""
    return weight.mean(AXES, keepdim=True), (weight.var(AXES, keepdim=True) + EPS).sqrt()


@LAYERS.register("ConvWS")
def standardised_conv() -> ConvFactory:
    """The factory of convolutions with standardised weights."""
    return partial(ConvWS2d)


@LAYERS.register("ConvAWS")
def scaled_standardised_conv() -> ConvFactory:
    """The factory of convolutions with standardised and rescaled weights."""
    return ConvAWS2d
