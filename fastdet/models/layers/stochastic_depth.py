"""Stochastic depth: residual branches that are left out now and then while training."""

from torch import nn
from torchvision.ops import StochasticDepth


def drop_path(rate: float) -> nn.Module:
    """A layer that sets a branch to 0 for whole images with that probability, and scales the others up to the mean.

    Source: Huang et al., Deep Networks with Stochastic Depth, section 3.
    """
    return StochasticDepth(rate, "row") if rate else nn.Identity()


def depth_rates(rate: float, blocks: int) -> list[float]:
    """A probability for each block, from 0 for the first to `rate` for the last."""
    return [rate * index / max(blocks - 1, 1) for index in range(blocks)]
