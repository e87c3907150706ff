"""Weighting and averaging of elementwise losses."""

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

Reduction = Literal["none", "mean", "sum"]

_EPSILON = torch.finfo(torch.float32).eps  # keeps an average over nothing finite, as in MMDetection


def reduce_loss(
    loss: Tensor,
    *,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    """The weighted loss, reduced.

    Args:
        loss: elementwise values.
        weight: broadcast against the values. A zero weight excludes an element even if its loss is not finite.
        avg_factor: with "mean", the sum is divided by it instead of by the number of elements.

    Raises:
        ValueError: avg_factor with reduction "sum", or an unknown reduction.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', not {reduction!r}")
    if weight is not None:
        loss = torch.where(weight == 0, 0.0, loss * weight)
    if reduction == "none":
        return loss
    return reduce_sum(loss.sum(), loss.numel(), reduction=reduction, avg_factor=avg_factor)


def reduce_sum(
    total: Tensor, number: int, *, reduction: Reduction = "mean", avg_factor: Tensor | float | None = None
) -> Tensor:
    """`reduce_loss` of a weighted loss of which only the sum is known.

    Args:
        total: the sum of the weighted values.
        number: how many values there are.

    Raises:
        ValueError: avg_factor with reduction "sum".
    """
    if avg_factor is None:
        return total / number if reduction == "mean" else total
    if reduction == "sum":
        raise ValueError("avg_factor can only be used with reduction 'mean' or 'none', not 'sum'")
    return total / (avg_factor + _EPSILON)


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a value over all processes, without gradient: averages of losses are those of the whole batch."""
    value = value.detach()
    if not (dist.is_available() and dist.is_initialized()):
        return value
    mean = value / dist.get_world_size()
    dist.all_reduce(mean)
    return mean
