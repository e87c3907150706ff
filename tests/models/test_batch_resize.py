"""BatchSyncRandomResize: which size when, and what moves with the pixels."""

import pytest
import torch

from fastdet.models.batch_resize import BatchSyncRandomResize
from fastdet.models.preprocess import Preprocess
from fastdet.structures import Batch, ImageMeta
from tests.models.helpers import make_targets


def batch(height: int = 64, width: int = 128) -> Batch:
    meta = ImageMeta(0, "", (height, width), (height, width), (1.0, 1.0))
    targets = make_targets([[[8, 16, 32, 64]]], ignored=[[[0, 0, 4, 2]]])
    return Batch(torch.full((1, 3, height, width), 7, dtype=torch.uint8), torch.tensor([[60, 128]]), targets, (meta,))


def test_sizes_change_every_interval_and_begin_as_they_are() -> None:
    resize = BatchSyncRandomResize((32, 320), interval=3)
    heights = [resize(batch()).pixels.shape[2] for _ in range(12)]
    assert heights[:3] == [64] * 3
    assert all(len(set(heights[i : i + 3])) == 1 for i in (3, 6, 9))
    assert len(set(heights)) > 1
    assert all(32 <= h <= 320 and h % 32 == 0 for h in heights)
    again = BatchSyncRandomResize((32, 320), interval=3)
    assert heights == [again(batch()).pixels.shape[2] for _ in range(12)]


def test_boxes_and_sizes_move_with_the_pixels() -> None:
    resize = BatchSyncRandomResize((32, 32), interval=1)
    resize(batch())
    found = resize(batch())
    assert found.pixels.shape == (1, 3, 32, 64)
    assert found.pixels.unique().tolist() == [7]
    assert found.sizes.tolist() == [[30, 64]]
    assert found.targets is not None
    assert found.targets.boxes[0, 0].tolist() == [4, 8, 16, 32]
    assert found.targets.ignore_boxes[0, 0].tolist() == [0, 0, 2, 1]


def test_only_training_batches_are_resized() -> None:
    part = Preprocess(resize=BatchSyncRandomResize((32, 32), interval=1))
    part.augment(batch())
    assert part.augment(batch()).pixels.shape[2] == 32
    assert part.eval().augment(batch()).pixels.shape[2] == 64


def test_a_range_without_multiples_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        BatchSyncRandomResize((4, 8))
