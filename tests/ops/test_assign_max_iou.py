"""Assignment by intersection over union without the matrix of pairs."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastdet.ops import assign_max_iou, reference
from tests.ops.samples import random_boxes

RULE: dict[str, Any] = {"positive": 0.7, "negative": (0.0, 0.3), "min_positive": 0.3}


def test_known_assignments(device: str) -> None:
    # IoUs with the object [0, 0, 10, 10]: 1, 0.8, 0.5, 0.2 and none.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [0, 0, 10, 2], [20, 20, 30, 30]])
    objects, valid = torch.tensor([[[0.0, 0, 10, 10]]]), torch.ones(1, 1, dtype=torch.bool)
    index, iou = assign_max_iou(boxes.to(device), objects.to(device), valid.to(device), **RULE)
    assert index.tolist() == [[0, 0, -2, -1, -1]]
    torch.testing.assert_close(iou.cpu(), torch.tensor([[1.0, 0.8, 0.5, 0.2, 0.0]]))


def test_an_object_takes_its_best_candidate_from_the_ignored_ones(device: str) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 4], [0, 5, 10, 10]], device=device)
    objects, valid = (
        torch.tensor([[[0.0, 0, 10, 10]]], device=device),
        torch.ones(1, 1, dtype=torch.bool, device=device),
    )
    assert assign_max_iou(boxes, objects, valid, **RULE)[0].tolist() == [[0, -2, 0]]
    assert assign_max_iou(boxes, objects, valid, **RULE, all_ties=False)[0].tolist() == [[0, -2, -2]]
    assert assign_max_iou(boxes, objects, valid, **RULE, match_low_quality=False)[0].tolist() == [[-2, -2, -2]]


def test_the_last_object_wins_a_low_quality_match_and_the_first_wins_a_tie(device: str) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]], device=device)
    objects = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10]]], device=device)
    valid = torch.ones(1, 2, dtype=torch.bool, device=device)
    assert assign_max_iou(boxes, objects, valid, **RULE)[0].tolist() == [[1]]
    assert assign_max_iou(boxes, objects, valid, **RULE, match_low_quality=False)[0].tolist() == [[0]]


def test_images_without_objects_are_background(device: str) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]], device=device)
    objects = torch.tensor([[[0.0, 0, 10, 10]]], device=device)
    valid = torch.zeros(1, 1, dtype=torch.bool, device=device)
    for found in (
        assign_max_iou(boxes, objects, valid, **RULE),
        assign_max_iou(boxes, objects[:, :0], valid[:, :0], **RULE),
    ):
        assert found[0].tolist() == [[-1]]
        assert found[1].tolist() == [[0.0]]


def test_no_candidate_and_no_image(device: str) -> None:
    objects, valid = torch.zeros(2, 3, 4, device=device), torch.ones(2, 3, dtype=torch.bool, device=device)
    assert assign_max_iou(torch.zeros(0, 4, device=device), objects, valid, **RULE)[0].shape == (2, 0)
    index, iou = assign_max_iou(torch.zeros(5, 4, device=device), objects[:0], valid[:0], **RULE)
    assert index.shape == iou.shape == (0, 5)


def test_nan_boxes_and_objects_overlap_nothing(device: str) -> None:
    for position in range(4):
        boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]], device=device)
        boxes[0, position] = math.nan
        objects = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10]]], device=device)
        objects[0, 1, position] = math.nan
        valid = torch.ones(1, 2, dtype=torch.bool, device=device)
        index, iou = assign_max_iou(boxes, objects, valid, **RULE)
        assert index.tolist() == [[-1, 0]], position
        assert iou.tolist() == [[0.0, 1.0]], position


def random_case(num_boxes: int, num_objects: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(2 * num_boxes, seed).view(2, num_boxes, 4).round()
    objects = random_boxes(2 * num_objects, seed + 1).view(2, num_objects, 4).round()
    valid, candidates, blocked = (
        torch.rand(2, size, generator=generator) < share
        for size, share in ((num_objects, 0.8), (num_boxes, 0.9), (num_boxes, 0.1))
    )
    return boxes, objects, valid, candidates, blocked


@pytest.mark.parametrize(("num_boxes", "num_objects"), [(1, 1), (17, 3), (255, 5), (257, 2), (300, 7)])
@pytest.mark.parametrize("all_ties", [True, False])
def test_equals_the_reference(device: str, num_boxes: int, num_objects: int, all_ties: bool) -> None:
    boxes, objects, valid, candidates, blocked = random_case(num_boxes, num_objects, num_boxes)
    for min_positive in (0.0, 0.3):
        options = {"positive": 0.5, "negative": (0.1, 0.4), "min_positive": min_positive, "all_ties": all_ties}
        expected = reference.assign_max_iou(boxes, objects, valid, **options, candidates=candidates, blocked=blocked)
        flags = {"candidates": candidates.to(device), "blocked": blocked.to(device)}
        actual = assign_max_iou(boxes.to(device), objects.to(device), valid.to(device), **options, **flags)
        assert torch.equal(actual[0].cpu(), expected[0])
        torch.testing.assert_close(actual[1].cpu(), expected[1], rtol=1e-6, atol=0)


small = st.integers(0, 5)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(small, small, small, small), min_size=1, max_size=30),
    num_objects=st.integers(0, 4),
    low_quality=st.booleans(),
)
def test_equals_the_reference_on_grid_boxes(rows: list[tuple[int, ...]], num_objects: int, low_quality: bool) -> None:
    # On a grid, equal IoUs, empty and inverted boxes are common.
    boxes = torch.tensor(rows, dtype=torch.float32)
    objects = boxes[: min(num_objects, len(rows))][None] + torch.tensor([0.0, 0, 1, 1])
    valid = torch.ones(objects.shape[:2], dtype=torch.bool)
    options = {"positive": 0.5, "negative": (0.0, 0.5), "match_low_quality": low_quality}
    expected = reference.assign_max_iou(boxes, objects, valid, **options)
    actual = assign_max_iou(boxes, objects, valid, **options)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_boxes_may_be_shared_by_the_images(device: str) -> None:
    boxes, objects, valid, _, _ = random_case(300, 6, 3)
    shared = assign_max_iou(boxes[0].to(device), objects.to(device), valid.to(device), **RULE)
    copied = assign_max_iou(boxes[:1].expand(2, -1, -1).to(device), objects.to(device), valid.to(device), **RULE)
    assert torch.equal(shared[0], copied[0])
    assert torch.equal(shared[1], copied[1])


def test_errors_name_the_argument() -> None:
    boxes, objects, valid, _, _ = random_case(4, 3, 0)
    with pytest.raises(ValueError, match=r"`boxes` must have shape \[2, \*, 4\], got \[1, 4, 4\]"):
        assign_max_iou(boxes[:1], objects, valid, **RULE)
    with pytest.raises(ValueError, match=r"`valid` must have shape \[2, 3\], got \[2, 2\]"):
        assign_max_iou(boxes, objects, valid[:, :2], **RULE)
    with pytest.raises(ValueError, match=r"`blocked` must have shape \[2, 4\], got \[2, 3\]"):
        assign_max_iou(boxes, objects, valid, **RULE, blocked=valid)
