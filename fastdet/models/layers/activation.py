"""Activations by name: factories that are called without arguments, so that each layer has its own module."""

from collections.abc import Callable
from functools import partial

from torch import nn

from fastdet.registry import LAYERS

ActFactory = Callable[[], nn.Module]


@LAYERS.register("ReLU")
def relu() -> ActFactory:
    """max(x, 0)."""
    return nn.ReLU


@LAYERS.register("ReLU6")
def relu6() -> ActFactory:
    """min(max(x, 0), 6)."""
    return nn.ReLU6


@LAYERS.register("LeakyReLU")
def leaky_relu(negative_slope: float = 0.01) -> ActFactory:
    """x, times the slope where it is negative."""
    return partial(nn.LeakyReLU, negative_slope)


@LAYERS.register("SiLU", "Swish")
def silu() -> ActFactory:
    """x * sigmoid(x)."""
    return nn.SiLU


@LAYERS.register("GELU")
def gelu() -> ActFactory:
    """x * the normal distribution's cumulative function."""
    return nn.GELU


@LAYERS.register("Sigmoid")
def sigmoid() -> ActFactory:
    """1 / (1 + exp(-x))."""
    return nn.Sigmoid


@LAYERS.register("HSwish")
def hard_swish() -> ActFactory:
    """x * min(max(x + 3, 0), 6) / 6."""
    return nn.Hardswish


@LAYERS.register("PReLU")
def parametric_relu() -> ActFactory:
    """x, times a learnt slope where it is negative."""
    return nn.PReLU
