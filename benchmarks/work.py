"""What the workloads need at least: bytes from memory and from caches, and operations."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.timing import Work
from benchmarks.workloads import STRIDES

FINEST_SCALE = 56.0


def size_of(*tensors: Tensor) -> int:
    """Bytes of all elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def moved_work(read: Sequence[Tensor], written: float = 0) -> Work:
    """Tensors are read once, and so many bytes written."""
    return Work(size_of(*read) + written)


def nms_work(boxes: Tensor, scores: Tensor) -> Work:
    """Boxes and scores are read, kept indices written; how many pairs are compared hangs on the boxes."""
    return moved_work([boxes, scores], 8 * len(boxes))


def pooling_work(features: Sequence[Tensor], rois: Tensor, side: int, sampling_ratio: int) -> Work:
    """Cells under any RoI are read once and the result is written; every sample reads four cells."""
    samples = 0
    touched = [torch.zeros(feature.shape[2:], dtype=torch.bool) for feature in features]
    for _, x1, y1, x2, y2 in rois.tolist():
        size = math.sqrt((x2 - x1) * (y2 - y1))
        level = min(max(math.floor(math.log2(size / FINEST_SCALE + 1e-6)), 0), len(features) - 1)
        left, top, right, bottom = (value / STRIDES[level] for value in (x1, y1, x2, y2))
        rows = slice(max(int(top), 0), max(math.ceil(bottom) + 1, 0))
        touched[level][rows, max(int(left), 0) : max(math.ceil(right) + 1, 0)] = True
        across, down = (max(1, math.ceil(length / side)) for length in (right - left, bottom - top))
        samples += sampling_ratio**2 if sampling_ratio > 0 else across * down
    cells = sum(int(mask.sum()) for mask in touched)
    cell = features[0].shape[1] * features[0].element_size()
    reads = 4 * samples * side * side
    return Work((cells + len(rois) * side * side) * cell, reads * cell, 2 * reads * features[0].shape[1])


def cell_pooling_work(feature: Tensor, rois: Tensor, side: int, stride: int, backward: bool) -> Work:
    """Cells under any RoI are read once and the result is written; every bin reads its cells.

    The gradient reads the result's gradient and the chosen cells' numbers, and writes the feature's whole gradient.
    """
    height, width = feature.shape[2:]
    touched, reads = torch.zeros(height, width, dtype=torch.bool), 0
    for corners in rois[:, 1:].tolist():
        left, top, right, bottom = (math.floor(value / stride + 0.5) for value in corners)
        touched[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = True
        inside = [_cells(low, high, side, size) for low, high, size in ((top, bottom, height), (left, right, width))]
        reads += inside[0] * inside[1]
    cell = feature.shape[1] * feature.element_size()
    pooled = len(rois) * side * side * feature.shape[1]
    if backward:
        return Work(size_of(feature) + pooled * (feature.element_size() + 4), 2 * pooled * feature.element_size())
    return Work(int(touched.sum()) * cell + pooled * (feature.element_size() + 4), reads * cell)


def _cells(low: int, high: int, bins: int, size: int) -> int:
    """Cells of all bins of one axis, low to high; bins overlap by up to a cell."""
    length = max(high - low + 1, 1) / bins
    edges = ((low + math.floor(i * length), low + math.ceil((i + 1) * length)) for i in range(bins))
    return sum(min(max(end, 0), size) - min(max(begin, 0), size) for begin, end in edges)


def pooling_gradient_work(features: Sequence[Tensor], rois: Tensor, side: int, sampling_ratio: int) -> Work:
    """The result's gradient is read, the features' whole gradient written; samples read and write four cells."""
    forward = pooling_work(features, rois, side, sampling_ratio)
    pooled = len(rois) * side * side * features[0].shape[1] * features[0].element_size()
    return Work(pooled + size_of(*features), 2 * forward.cached_bytes, forward.flops)


def convolution_work(features: Tensor, offset: Tensor, weight: Tensor, mask: Tensor, with_gradient: bool) -> Work:
    """Everything once; four cells for each tap and position; the gradient takes two more matrix products."""
    positions = mask.shape[0] * mask.shape[2] * mask.shape[3]
    results = positions * weight.shape[0] * features.element_size()
    taps = positions * weight.shape[2] * weight.shape[3]
    once = size_of(features, offset, weight, mask) + results
    gathered = 4 * taps * features.shape[1] * features.element_size()
    flops = 2 * taps * weight.shape[0] * weight.shape[1]
    return Work(3 * once, 4 * gathered, 3 * flops) if with_gradient else Work(once, gathered, flops)


def assignment_work(boxes: Tensor, images: int) -> Work:
    """Boxes are read once, an index of 8 bytes and an overlap of 4 are written for each image."""
    return Work(size_of(boxes) + images * len(boxes) * 12)


def attention_work(value: Tensor, locations: Tensor, weights: Tensor, with_gradient: bool) -> Work:
    """Everything once; four cells for each sample; the gradient reads them again, and reads and writes their sums."""
    samples, cell = weights.numel(), value.shape[3] * value.element_size()
    once = size_of(value, locations, weights) + locations.shape[1] * value.shape[0] * value.shape[2] * cell
    flops = 8 * samples * value.shape[3]
    return Work(3 * once, 16 * samples * cell, 3 * flops) if with_gradient else Work(once, 4 * samples * cell, flops)
