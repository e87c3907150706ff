"""Batch normalisation over padded batches of RoIs: slots that hold no RoI count in no statistic.

Letters: R slots, C channels.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from fastdet.models.layers.conv_module import ConvModule


def normalise_valid(norm: nn.Module, x: Tensor, valid: Tensor | None) -> Tensor:
    """A normalisation layer's output, its batch statistics taken over the valid rows only.

    Layers without batch statistics (GroupNorm, frozen or evaluating BatchNorm) run as they are. With every row valid
    the result is the layer's own; without a valid row the running statistics stay as they were.

    Args:
        norm: the layer.
        x: [R, C, ...].
        valid: which rows hold a RoI, bool [R]; None if all do.
    """
    if valid is None or not (isinstance(norm, _BatchNorm) and norm.training):
        return norm(x)
    axes = [0, *range(2, x.dim())]
    per_channel = [1, -1] + [1] * (x.dim() - 2)
    rows = valid.view(-1, *[1] * (x.dim() - 1))
    values = torch.where(rows, x.float(), 0.0)
    cells = _over_ranks(norm, valid.sum().float() * math.prod(x.shape[2:]))
    mean = _over_ranks(norm, values.sum(axes)) / cells.clamp(min=1)
    centred = torch.where(rows, x.float() - mean.view(per_channel), 0.0)
    variance = _over_ranks(norm, (centred * centred).sum(axes)) / cells.clamp(min=1)
    _update_running(norm, mean.detach(), variance.detach(), cells)
    scaled = centred * torch.rsqrt(variance + norm.eps).view(per_channel)
    if norm.affine:
        scaled = scaled * norm.weight.view(per_channel) + norm.bias.view(per_channel)
    return scaled.to(x.dtype)


def _over_ranks(norm: nn.Module, value: Tensor) -> Tensor:
    """The sum over processes where the layer is synchronised, else the value itself."""
    if isinstance(norm, nn.SyncBatchNorm) and dist.is_available() and dist.is_initialized():
        return all_reduce(value)
    return value


def _update_running(norm: _BatchNorm, mean: Tensor, variance: Tensor, cells: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    some = cells > 0
    norm.num_batches_tracked.add_(some.to(norm.num_batches_tracked.dtype))
    weight = 1.0 / norm.num_batches_tracked.clamp(min=1) if norm.momentum is None else norm.momentum
    weight = torch.where(some, weight, 0.0)
    unbiased = variance * (cells / (cells - 1).clamp(min=1))
    norm.running_mean.add_(weight * (mean - norm.running_mean))
    norm.running_var.add_(weight * (unbiased - norm.running_var))


def conv_valid(module: nn.Module, x: Tensor, valid: Tensor | None) -> Tensor:
    """A ConvModule's output, batch statistics taken over the valid rows only."""
    assert isinstance(module, ConvModule)
    x = module.conv(x)
    norm = module.norm
    if norm is not None:
        x = normalise_valid(norm, x, valid)
    return x if module.activate is None else module.activate(x)
