"""Batches: padding of pixels, targets and masks."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fastdet.data.collate import collate, round_slots
from fastdet.data.pipeline import sample_of_file
from fastdet.structures import Sample
from fastdet.utils.errors import DataError

MakeSample = Callable[..., Sample]


@pytest.mark.parametrize(("count", "slots"), [(0, 8), (1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (100, 128)])
def test_slots_are_powers_of_two(count: int, slots: int) -> None:
    assert round_slots(count) == slots


def test_pixels_are_padded_to_the_largest_and_the_divisor(make_sample: MakeSample) -> None:
    first, second = make_sample(height=10, width=20), make_sample(height=17, width=5)
    batch = collate([first, second], pad_divisor=8)
    assert batch.pixels.shape == (2, 3, 24, 24)
    assert batch.pixels.dtype == torch.uint8
    np.testing.assert_array_equal(batch.pixels[0, :, :10, :20].permute(1, 2, 0), first.image)
    assert batch.pixels[0, :, 10:].sum() == batch.pixels[0, :, :, 20:].sum() == 0
    assert batch.sizes.tolist() == [[10, 20], [17, 5]]
    assert batch.metas[1].input_size == (17, 5)
    assert collate([first, second]).pixels.shape == (2, 3, 17, 20)


def test_one_float_sample_makes_the_batch_float(make_sample: MakeSample) -> None:
    sample = make_sample()
    float_sample = replace(sample, image=sample.image.astype(np.float32) + 0.5)
    batch = collate([sample, float_sample])
    assert batch.pixels.dtype == torch.float32
    np.testing.assert_array_equal(batch.pixels[1].permute(1, 2, 0), float_sample.image)


def test_fixed_sizes_are_least_sizes(make_sample: MakeSample) -> None:
    assert collate([make_sample()], pad_divisor=4, fixed_size=(13, 30)).pixels.shape == (1, 3, 13, 30)
    assert collate([make_sample()], pad_divisor=8, fixed_size=(12, 19)).pixels.shape == (1, 3, 16, 24)


def test_ignored_objects_stand_apart(make_sample: MakeSample) -> None:
    sample = make_sample(boxes=[[0, 0, 1, 1], [1, 1, 3, 3], [2, 2, 5, 5]])
    sample = replace(sample, ignore=np.array([False, True, False]))
    targets = collate([sample, make_sample(boxes=[])]).targets
    assert targets.boxes.shape == (2, 8, 4)
    assert targets.count.tolist() == [2, 0]
    assert targets.labels[0, :3].tolist() == [0, 2, 0]
    assert targets.boxes[0, 1].tolist() == [2, 2, 5, 5]
    assert targets.boxes[0, 2:].sum() == targets.boxes[1].sum() == 0
    assert targets.ignore_count.tolist() == [1, 0]
    assert targets.ignore_boxes[0, 0].tolist() == [1, 1, 3, 3]
    assert targets.valid.sum() == 2
    assert targets.masks is None
    assert (targets.boxes.dtype, targets.labels.dtype, targets.count.dtype) == (
        torch.float32, torch.int64, torch.int64,
    )  # fmt: skip


@pytest.mark.parametrize("as_polygons", [False, True])
def test_masks_can_be_read_back_from_the_buffer(make_sample: MakeSample, as_polygons: bool) -> None:
    polygons = [[np.array([2.0, 1, 6, 1, 6, 5, 2, 5])], [np.array([10.0, 4, 18, 4, 18, 9, 10, 9])]]
    bitmaps = np.zeros((2, 10, 20), np.uint8)
    bitmaps[0, 1:5, 2:6] = 1
    bitmaps[1, 4:9, 10:18] = 1
    first = make_sample(masks=polygons if as_polygons else bitmaps)
    second = replace(first, ignore=np.array([True, False]))
    buffer = collate([first, make_sample(boxes=[], masks=[] if as_polygons else bitmaps[:0]), second]).targets.masks
    assert buffer.bits.dtype == torch.uint8
    assert buffer.windows.dtype == torch.int32
    assert buffer.windows.shape == (24, 4)
    assert buffer.windows[[0, 1, 2, 16, 17]].tolist() == [
        [2, 1, 4, 4], [10, 4, 8, 5], [0, 0, 0, 0], [10, 4, 8, 5], [0, 0, 0, 0],
    ]  # fmt: skip
    assert buffer.offsets[[0, 1, 16]].tolist() == [0, 16, 56]
    assert buffer.bits.tolist() == [1] * (16 + 40 + 40)


def test_undecoded_samples_are_refused() -> None:
    with pytest.raises(DataError, match=r"a\.jpg: the sample has no pixels"):
        collate([sample_of_file("a.jpg")])


def test_boxes_without_area_are_ignored_with_their_masks(make_sample: MakeSample) -> None:
    sample = make_sample()
    boxes = sample.boxes.copy()
    boxes[0] = (4, 3, 4, 9)
    targets = collate([replace(sample, boxes=boxes)]).targets
    assert targets is not None
    assert targets.count.item() == len(boxes) - 1
    assert targets.ignore_count.item() == 1
    assert targets.boxes[0, : len(boxes) - 1].tolist() == boxes[1:].tolist()
