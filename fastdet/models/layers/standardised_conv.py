"""Convolutions that standardise their weights in every forward pass."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers.conv_module import ConvFactory
from fastdet.registry import LAYERS


class ConvWS2d(nn.Conv2d):
    """A convolution whose weights have mean 0 and deviation 1 for each output channel.

    The deviation is that of a sample (over n - 1), and `eps` is added to it, not to the variance: as MMDetection's
    checkpoints were trained. Key: weight, as of a plain convolution.
    Source: Qiao et al., Micro-Batch Training with Batch-Channel Normalization and Weight Standardization.
    """

    eps: float = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H', W']."""
        axes = (1, 2, 3)
        centred = self.weight - self.weight.mean(axes, keepdim=True)
        weight = centred / (self.weight.std(axes, keepdim=True) + self.eps)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@LAYERS.register("ConvWS")
def standardised_conv() -> ConvFactory:
    """The factory of convolutions with standardised weights."""
    return partial(ConvWS2d)
