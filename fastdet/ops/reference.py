"""Slow, readable twins of the ops: what the kernels must compute. Plain torch on the CPU, one scalar at a time.

Coordinates are computed in the type of the given boxes, so that float64 inputs give the exact answer to compare with.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastdet.ops.reference_dense import dense_postprocess as dense_postprocess
from fastdet.ops.reference_dense import grid_anchors as grid_anchors
from fastdet.ops.reference_images import fit_images as fit_images
from fastdet.ops.reference_losses import box_iou as box_iou
from fastdet.ops.reference_losses import paired_box_iou as paired_box_iou
from fastdet.ops.reference_losses import sigmoid_focal_loss as sigmoid_focal_loss
from fastdet.ops.reference_masks import paste_masks as paste_masks
from fastdet.ops.reference_pooling import roi_pool as roi_pool
from fastdet.ops.reference_suppression import batched_nms as batched_nms
from fastdet.ops.reference_suppression import nms as nms
from fastdet.ops.reference_suppression import nms_match as nms_match
from fastdet.ops.reference_suppression import nms_padded as nms_padded
from fastdet.ops.reference_suppression import overlaps as overlaps
from fastdet.ops.reference_suppression import soft_nms as soft_nms


class BinSamples(NamedTuple):
    """Sample positions of one axis of a RoI, [bins, samples per bin]."""

    positions: Tensor
    per_bin: int


def axis_samples(low: Tensor, high: Tensor, scale: float, bins: int, sampling_ratio: int, aligned: bool) -> BinSamples:
    """Where a RoI samples one axis of a feature map, in cells."""
    offset = 0.5 if aligned else 0.0
    start = low * scale - offset
    length = (high * scale - offset) - start
    if not aligned:
        length = length.clamp(min=1.0)
    bin_size = length / bins
    finite = bool(torch.isfinite(start) & torch.isfinite(bin_size))
    per_bin = sampling_ratio if sampling_ratio > 0 else math.ceil(bin_size) if finite else 0
    per_bin = max(per_bin, 0) if finite else 0
    bin_index = torch.arange(bins, dtype=low.dtype)[:, None]
    sample = torch.arange(per_bin, dtype=low.dtype)[None, :]
    return BinSamples(start + bin_index * bin_size + (sample + 0.5) * bin_size / max(per_bin, 1), per_bin)


def axis_weights(samples: BinSamples, size: int) -> Tensor:
    """How much each cell of the axis contributes to each bin, [bins, size], summed over the bin's samples."""
    weights = torch.zeros(samples.positions.shape[0], size, dtype=samples.positions.dtype)
    for bin_index, row in enumerate(samples.positions):
        for position in row.tolist():
            if not -1.0 <= position <= size:
                continue
            position = min(max(position, 0.0), size - 1.0)
            low = int(position)
            fraction = position - low
            weights[bin_index, low] += 1.0 - fraction
            if fraction > 0.0:
                weights[bin_index, low + 1] += fraction
    return weights


def pyramid_level(box: Tensor, num_levels: int, finest_scale: float) -> int:
    """The level of a box [4], by its size."""
    size = ((box[2] - box[0]) * (box[3] - box[1])).sqrt()
    level = torch.floor(torch.log2(size / finest_scale + 1e-6))
    return 0 if bool(torch.isnan(level)) else int(level.clamp(0, num_levels - 1))


def roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
    finest_scale: float = 56.0,
    levels: Tensor | None = None,
    pool_mode: str = "avg",
) -> Tensor:
    """Each RoI's bins as weighted sums over the whole map of its level; differentiable through torch."""
    output_h, output_w = (output_size, output_size) if isinstance(output_size, int) else output_size
    pooled = [features[0].new_zeros(0, features[0].shape[1], output_h, output_w)]
    for k, roi in enumerate(rois):
        chosen = pyramid_level(roi[1:], len(features), finest_scale) if levels is None else int(levels[k])
        feature, scale = features[chosen][int(roi[0])], spatial_scales[chosen]
        y = axis_samples(roi[2], roi[4], scale, output_h, sampling_ratio, aligned)
        x = axis_samples(roi[1], roi[3], scale, output_w, sampling_ratio, aligned)
        y_weights = axis_weights(y, feature.shape[1]).to(feature.dtype)
        x_weights = axis_weights(x, feature.shape[2]).to(feature.dtype)
        if pool_mode == "max":
            pooled.append(_largest_samples(feature, y, x)[None])
            continue
        count = max(y.per_bin * x.per_bin, 1)
        pooled.append(torch.einsum("py,qx,cyx->cpq", y_weights, x_weights, feature)[None] / count)
    return torch.cat(pooled)


def _largest_samples(feature: Tensor, y: BinSamples, x: BinSamples) -> Tensor:
    """The largest sample of each bin, [C, h, w]; 0 for a bin without samples."""
    height, width = y.positions.shape[0], x.positions.shape[0]
    if y.per_bin == 0 or x.per_bin == 0:
        return feature.new_zeros(feature.shape[0], height, width)
    # Every sample as a bin of its own: its weights over the cells of its axis.
    y_weights, x_weights = (
        axis_weights(BinSamples(axis.positions.reshape(-1, 1), 1), size).to(feature.dtype)
        for axis, size in ((y, feature.shape[1]), (x, feature.shape[2]))
    )
    samples = torch.einsum("py,qx,cyx->cpq", y_weights, x_weights, feature)
    by_bin = samples.unflatten(2, (width, x.per_bin)).unflatten(1, (height, y.per_bin))  # [C, h, y, w, x]
    return by_bin.amax((2, 4))


def crop_masks(
    bits: Tensor,
    offsets: Tensor,
    windows: Tensor,
    mask_index: Tensor,
    boxes: Tensor,
    output_size: int,
    image_size: tuple[int, int],
) -> Tensor:
    """Pastes each mask into a full-size image and pools it with `roi_align`."""
    crops = torch.zeros(len(mask_index), output_size, output_size, dtype=boxes.dtype)
    for k, mask in enumerate(mask_index.tolist()):
        if mask < 0:
            continue
        x0, y0, width, height = windows[mask].tolist()
        start = int(offsets[mask])
        image = torch.zeros(1, 1, *image_size, dtype=boxes.dtype)
        image[0, 0, y0 : y0 + height, x0 : x0 + width] = bits[start : start + width * height].view(height, width)
        roi = torch.cat([boxes.new_zeros(1), boxes[k]])[None]
        crops[k] = roi_align([image], roi, output_size, [1.0])[0, 0]
    return crops


def bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Samples image [C, H, W] at one point; cells outside of the image are zero. Differentiable."""
    height, width = image.shape[1:]
    y_number, x_number = y.item(), x.item()
    if not (-1 < y_number < height and -1 < x_number < width):
        return image.new_zeros(image.shape[0])
    y_low, x_low = math.floor(y_number), math.floor(x_number)
    value = image.new_zeros(image.shape[0])
    for cell_y, y_weight in ((y_low, 1 - (y - y_low)), (y_low + 1, y - y_low)):
        for cell_x, x_weight in ((x_low, 1 - (x - x_low)), (x_low + 1, x - x_low)):
            if 0 <= cell_y < height and 0 <= cell_x < width:
                value = value + y_weight * x_weight * image[:, cell_y, cell_x]
    return value


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    """One sample per image, output cell, tap and offset group; differentiable through torch."""
    kernel_h, kernel_w = weight.shape[2:]
    taps = kernel_h * kernel_w
    groups, offset_groups = input.shape[1] // weight.shape[1], offset.shape[1] // (2 * taps)
    share = input.shape[1] // offset_groups
    images = []
    for n, image in enumerate(input):
        cells = []
        for y in range(offset.shape[2]):
            for x in range(offset.shape[3]):
                columns = []
                for d in range(offset_groups):
                    for k in range(taps):
                        shift = offset[n, 2 * (d * taps + k) :, y, x]
                        at_y = y * stride[0] - padding[0] + k // kernel_w * dilation[0] + shift[0]
                        at_x = x * stride[1] - padding[1] + k % kernel_w * dilation[1] + shift[1]
                        value = bilinear(image[d * share : (d + 1) * share], at_y, at_x)
                        columns.append(value if mask is None else mask[n, d * taps + k, y, x] * value)
                column = torch.stack(columns).view(offset_groups, taps, share).transpose(1, 2)
                by_group = column.reshape(groups, weight.shape[1] * taps)
                cells.append((weight.view(groups, -1, weight.shape[1] * taps) @ by_group[:, :, None]).flatten())
        images.append(torch.stack(cells, dim=1).view(-1, *offset.shape[2:]))
    output = torch.stack(images) if images else input.new_zeros(0, weight.shape[0], *offset.shape[2:])
    return output if bias is None else output + bias[:, None, None]


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """One sample per image, query, head, level and point; differentiable through torch."""
    batch, _, heads, channels = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    output = value.new_zeros(batch, queries, heads, channels)
    for b, q, m in itertools.product(range(batch), range(queries), range(heads)):
        start, total = 0, value.new_zeros(channels)
        for level, (height, width) in enumerate(spatial_shapes):
            image = value[b, start : start + height * width, m].T.reshape(channels, height, width)
            start += height * width
            for p in range(points):
                x, y = sampling_locations[b, q, m, level, p]
                sample = bilinear(image, y * height - 0.5, x * width - 0.5)
                total = total + attention_weights[b, q, m, level, p] * sample
        output = output.index_put((torch.tensor(b), torch.tensor(q), torch.tensor(m)), total)
    return output.flatten(2)


def assign_max_iou(
    boxes: Tensor,
    objects: Tensor,
    valid: Tensor,
    *,
    positive: float,
    negative: tuple[float, float],
    min_positive: float = 0.0,
    match_low_quality: bool = True,
    all_ties: bool = True,
    candidates: Tensor | None = None,
    blocked: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The rule, one image, candidate and object at a time, on the matrix of all pairs."""
    batch = objects.shape[0]
    boxes = boxes.expand(batch, *boxes.shape[-2:])
    size = boxes.shape[1]
    takes_part = torch.ones(batch, size, dtype=torch.bool) if candidates is None else candidates
    out = torch.zeros(batch, size, dtype=torch.bool) if blocked is None else blocked
    index = torch.full((batch, size), -2)
    best = torch.zeros(batch, size)
    for b in range(batch):
        slots = [m for m in range(objects.shape[1]) if valid[b, m]]
        live = [p for p in range(size) if takes_part[b, p]]
        if not slots:
            index[b, live] = -1
            continue
        pairs = torch.zeros(objects.shape[1], size)
        for m in slots:
            for p in range(size):
                if takes_part[b, p] and not out[b, p]:
                    pairs[m, p] = _pair_iou(objects[b, m], boxes[b, p])
        for p in live:
            m = max(slots, key=lambda m: (float(pairs[m, p]), -m))
            best[b, p] = -1.0 if out[b, p] else pairs[m, p]
            if best[b, p] >= positive:
                index[b, p] = m
            elif max(negative[0], 0.0) <= best[b, p] < negative[1]:
                index[b, p] = -1
        free = [p for p in live if not out[b, p]]
        for m in slots if match_low_quality and free else []:
            most = pairs[m].max()
            ties = [p for p in free if pairs[m, p] == most]
            if most >= min_positive and ties:
                index[b, ties if all_ties else ties[:1]] = m
    return index, best


def _pair_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of two boxes [4], with a union of at least 1e-6; 0 where a coordinate is NaN."""
    sides = (torch.minimum(first[2:], second[2:]) - torch.maximum(first[:2], second[:2])).clamp(min=0)
    shared = sides[0] * sides[1]
    union = (first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - shared
    return torch.nan_to_num(shared / union.clamp(min=1e-6), nan=0.0)
