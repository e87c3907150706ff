"""Initial values of convolutions, as MMDetection draws them. All biases start at 0."""

import math

from torch import nn


def init_kaiming(module: nn.Module) -> None:
    """Normal with variance 2 / (output channels * kernel area), for every convolution inside.

    Source: He et al., Delving Deep into Rectifiers, equation 14.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            _zero_bias(layer)


def init_xavier(module: nn.Module) -> None:
    """Uniform with variance 2 / (fan in + fan out), for every convolution inside.

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward networks, equation 16.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            _zero_bias(layer)


def init_normal(module: nn.Module, std: float) -> None:
    """Normal around 0, for every convolution inside."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=std)
            _zero_bias(layer)


def prior_bias(probability: float) -> float:
    """The bias whose sigmoid is a small first guess, so that training does not start with a wall of false positives.

    Source: Lin et al., Focal Loss for Dense Object Detection, section 4.1.
    """
    return -math.log((1 - probability) / probability)


def _zero_bias(layer: nn.Conv2d) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
