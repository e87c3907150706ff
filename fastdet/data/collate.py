"""Samples into a Batch: padded pixels, padded targets, one buffer of masks.

Letters: B images, M objects of an image (rounded up), I ignored ones (rounded up), N mask pixels.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fastdet.data.masks import Windows, select_masks, window_masks
from fastdet.structures import Batch, ImageMeta, MaskBuffer, Proposals, Sample, Targets
from fastdet.utils.errors import DataError

NO_CLASS = 255
"""What pixels of a semantic map hold that belong to no class."""
MIN_SLOTS = 8
"""The least number of target slots: few sizes of M mean few compiled variants of a training step."""


def collate(samples: Sequence[Sample], *, pad_divisor: int = 1, fixed_size: tuple[int, int] | None = None) -> Batch:
    """Makes a batch of samples.

    Pixels are padded with 0 at the right and bottom to the largest height and width, rounded up to `pad_divisor`, and
    to at least `fixed_size`. They stay uint8 unless a sample is float. Ignored objects are split from the others; boxes
    that the transforms left without area (a crop beside the object) join them, since no regression target exists for
    them. Masks, semantic maps and proposals travel if every sample has them: masks cut out to the windows of their set
    pixels, maps padded with 255.

    Args:
        fixed_size: (H, W) that every batch gets at least (MMDetection's BatchFixedSizePad).

    Raises:
        DataError: a sample has no pixels.
    """
    sizes = [_size(sample) for sample in samples]
    samples = [_with_area(sample) for sample in samples]
    size = _batch_size(sizes, pad_divisor, fixed_size)
    targets = _targets(samples, size)
    metas = tuple(
        ImageMeta(s.image_id, s.path, s.file_size, size, s.scale, s.flip)
        for s, size in zip(samples, sizes, strict=True)
    )
    pixels = _stack_pixels(samples, size)
    return Batch(pixels, torch.tensor(sizes, dtype=torch.int64), targets, metas, _proposals(samples))


def round_slots(count: int) -> int:
    """The number of slots for `count` objects: 8, 16, 32, 64, ..."""
    return max(MIN_SLOTS, 1 << (count - 1).bit_length()) if count > 0 else MIN_SLOTS


def _size(sample: Sample) -> tuple[int, int]:
    height, width = sample.image.shape[:2]
    if sample.image.size == 0:
        raise DataError(f"{sample.path}: the sample has no pixels; a pipeline starts with LoadImageFromFile")
    return height, width


def _batch_size(sizes: list[tuple[int, int]], divisor: int, fixed_size: tuple[int, int] | None) -> tuple[int, int]:
    height, width = (-(-max(side) // divisor) * divisor for side in zip(*sizes, strict=True))
    if fixed_size is None:
        return height, width
    return max(height, fixed_size[0]), max(width, fixed_size[1])


def _stack_pixels(samples: Sequence[Sample], size: tuple[int, int]) -> Tensor:
    """[B, 3, H, W]"""
    is_float = any(sample.image.dtype != np.uint8 for sample in samples)
    pixels = torch.zeros((len(samples), 3, *size), dtype=torch.float32 if is_float else torch.uint8)
    for slot, sample in zip(pixels, samples, strict=True):
        height, width = sample.image.shape[:2]
        slot[:, :height, :width] = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1)
    return pixels


def _with_area(sample: Sample) -> Sample:
    """The sample with its empty boxes marked as ignored."""
    sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
    empty = ~(sides > 0).all(axis=1)
    return replace(sample, ignore=sample.ignore | empty) if empty.any() else sample


def _targets(samples: Sequence[Sample], size: tuple[int, int]) -> Targets:
    counts = [int((~s.ignore).sum()) for s in samples]
    ignored = [int(s.ignore.sum()) for s in samples]
    num_slots, num_ignore = round_slots(max(counts)), round_slots(max(ignored))
    boxes = np.zeros((len(samples), num_slots, 4), np.float32)
    labels = np.zeros((len(samples), num_slots), np.int64)
    ignore_boxes = np.zeros((len(samples), num_ignore, 4), np.float32)
    for b, sample in enumerate(samples):
        boxes[b, : counts[b]] = sample.boxes[~sample.ignore]
        labels[b, : counts[b]] = sample.labels[~sample.ignore]
        ignore_boxes[b, : ignored[b]] = sample.boxes[sample.ignore]
    return Targets(
        torch.from_numpy(boxes), torch.from_numpy(labels), torch.tensor(counts),
        torch.from_numpy(ignore_boxes), torch.tensor(ignored), _mask_buffer(samples, num_slots),
        _semantic_maps(samples, size),
    )  # fmt: skip


def _semantic_maps(samples: Sequence[Sample], size: tuple[int, int]) -> Tensor | None:
    """[B, H, W] uint8"""
    maps = torch.full((len(samples), *size), NO_CLASS, dtype=torch.uint8)
    for slot, sample in zip(maps, samples, strict=True):
        if sample.semantic is None:
            return None
        height, width = sample.semantic.shape
        slot[:height, :width] = torch.from_numpy(np.ascontiguousarray(sample.semantic))
    return maps


def _proposals(samples: Sequence[Sample]) -> Proposals | None:
    found = [sample.proposals for sample in samples if sample.proposals is not None]
    if len(found) < len(samples):
        return None
    boxes = np.zeros((len(found), round_slots(max(map(len, found))), 4), np.float32)
    for slots, part in zip(boxes, found, strict=True):
        slots[: len(part)] = part
    return Proposals(torch.from_numpy(boxes), torch.tensor([len(part) for part in found]))


def _mask_buffer(samples: Sequence[Sample], num_slots: int) -> MaskBuffer | None:
    pieces: list[Windows] = []
    for sample in samples:
        if sample.masks is None:
            return None
        pieces.append(window_masks(select_masks(sample.masks, ~sample.ignore), sample.image.shape[:2]))
    windows = np.zeros((len(samples), num_slots, 4), np.int32)
    offsets = np.zeros((len(samples), num_slots), np.int64)
    start = 0
    for b, piece in enumerate(pieces):
        windows[b, : len(piece.windows)] = piece.windows
        offsets[b, : len(piece.offsets)] = piece.offsets + start
        start += len(piece.bits)
    bits = np.concatenate([piece.bits for piece in pieces])
    return MaskBuffer(
        torch.from_numpy(bits), torch.from_numpy(offsets.reshape(-1)), torch.from_numpy(windows.reshape(-1, 4))
    )
