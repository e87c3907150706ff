"""Mask targets: instance masks cropped to boxes and resampled.

G masks, N bits, K boxes, S output side.
"""

import torch
from torch import Tensor

from fastdet.ops.checks import as_coordinates, check_dtype, check_shape


def crop_masks(
    bits: Tensor,
    offsets: Tensor,
    windows: Tensor,
    mask_index: Tensor,
    boxes: Tensor,
    output_size: int,
    image_size: tuple[int, int],
) -> Tensor:
    """Resamples, for each box, one instance mask to a square.

    Equals `roi_align` (aligned, adaptive sampling) of the full-size mask, without making it: mask g is a bitmap of
    the window (x0, y0, w, h) and 0 outside. Comparing with 0.5 gives MMDetection's mask targets.

    Args:
        bits: [N] uint8, 0 or 1: the bitmaps, row-major, one after the other.
        offsets: [G] int64: where each bitmap starts.
        windows: [G, 4] int32: x0, y0, width, height in image pixels.
        mask_index: [K] int64: the mask of each box; -1 gives zeros.
        boxes: [K, 4] xyxy in image pixels.
        output_size: S.
        image_size: (H, W) of the image that the full-size masks would have.

    Returns:
        [K, S, S] float32 in [0, 1].

    Raises:
        ValueError: A shape or dtype does not fit.
        RuntimeError: On the CPU, a mask index or window is out of range. On a GPU such a box gives zeros.
    """
    check_shape("bits", bits, None)
    check_dtype("bits", bits, torch.uint8)
    check_shape("offsets", offsets, None)
    check_dtype("offsets", offsets, torch.int64)
    check_shape("windows", windows, offsets.shape[0], 4)
    check_dtype("windows", windows, torch.int32)
    check_shape("mask_index", mask_index, None)
    check_dtype("mask_index", mask_index, torch.int64)
    check_shape("boxes", boxes, mask_index.shape[0], 4)
    if output_size <= 0:
        raise ValueError(f"`output_size` must be positive, got {output_size}")
    boxes = as_coordinates("boxes", boxes)
    return torch.ops.fastdet.crop_masks(bits, offsets, windows, mask_index, boxes, output_size, *image_size)


@torch.library.register_fake("fastdet::crop_masks")
def _crop_masks_fake(
    bits: Tensor,
    offsets: Tensor,
    windows: Tensor,
    mask_index: Tensor,
    boxes: Tensor,
    output_size: int,
    image_h: int,
    image_w: int,
) -> Tensor:
    return boxes.new_empty(mask_index.shape[0], output_size, output_size)
