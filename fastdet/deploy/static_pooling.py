"""Adaptive pooling in an exported graph: ONNX has it for one window alone."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def adaptive_max_pool2d(input: Tensor, output_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`F.adaptive_max_pool2d` as a pooling with equal windows, or else as gathers of rows and of columns.

    Args:
        input: [B, C, H, W].
        output_size: (h, w); window i of an axis of n cells goes from i * n // h to (i + 1) * n / h, rounded up.

    Returns:
        [B, C, h, w], and an empty tensor where torch gives the places of the maxima, which no part of a detector reads.
    """
    none = torch.empty(0, dtype=torch.int64)
    sizes = [int(side) for side in input.shape[2:]]
    if not any(n % m for n, m in zip(sizes, output_size, strict=True)):
        return F.max_pool2d(input, [n // m for n, m in zip(sizes, output_size, strict=True)]), none
    pooled = input
    for axis, n, m in zip((2, 3), sizes, output_size, strict=True):
        longest = max(-(-(i + 1) * n // m) - i * n // m for i in range(m))
        window = torch.arange(m)[:, None]
        start, end = window * n // m, ((window + 1) * n + m - 1) // m
        cells = torch.minimum(start + torch.arange(longest), end - 1)
        pooled = pooled.index_select(axis, cells.flatten()).unflatten(axis, (m, longest)).amax(axis + 1)
    return pooled, none
