"""Slow twins of the maximum poolings; `fastdet.ops.reference` has them all."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def _bin(low: float, high: float, scale: float, bins: int, index: int, size: int, rounded: bool) -> range:
    """The cells of one axis that a bin touches."""
    start, end = low * scale, (high if rounded else high + 1) * scale
    shift = 0
    if rounded:
        shift = math.floor(abs(start) + 0.5) * (1 if start >= 0 else -1)  # halves away from zero
        last = math.floor(abs(end) + 0.5) * (1 if end >= 0 else -1)
        start, end = 0.0, float(max(last - shift + 1, 1))
    length = (end - start) / bins
    if not length > 0:
        return range(0)
    first = math.floor(index * length + start) + shift
    behind = math.ceil((index + 1) * length + start) + shift
    return range(min(max(first, 0), size), min(max(behind, 0), size))


def roi_pool(
    features: Sequence[Tensor],
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    *,
    rounded: bool = True,
    levels: Tensor,
) -> Tensor:
    """One bin at a time; differentiable through torch."""
    pooled = []
    for k, roi in enumerate(rois):
        feature, scale = features[int(levels[k])][int(roi[0])], spatial_scales[int(levels[k])]
        x1, y1, x2, y2 = roi[1:].tolist()
        for bin_y in range(output_size[0]):
            for bin_x in range(output_size[1]):
                ys = _bin(y1, y2, scale, output_size[0], bin_y, feature.shape[1], rounded)
                xs = _bin(x1, x2, scale, output_size[1], bin_x, feature.shape[2], rounded)
                cells = feature[:, ys.start : ys.stop, xs.start : xs.stop].flatten(1)
                pooled.append(cells.max(1).values if cells.shape[1] > 0 else feature.new_zeros(feature.shape[0]))
    shape = (len(rois), *output_size, features[0].shape[1])
    rows = torch.stack(pooled).view(shape) if pooled else features[0].new_zeros(shape)
    return rows.permute(0, 3, 1, 2)
