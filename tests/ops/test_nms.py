"""nms and batched_nms: the greedy rule, exact per group."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdet.ops import batched_nms, nms, reference
from tests.ops.samples import random_boxes, random_groups, tied_scores


def test_known_boxes_are_kept(device: str) -> None:
    # Numbers of MMCV's test suite.
    boxes = torch.tensor([[6.0, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]], device=device)
    scores = torch.tensor([0.6, 0.9, 0.7, 0.2], device=device)
    assert nms(boxes, scores, 0.3).tolist() == [1, 0, 3]


def test_an_iou_equal_to_the_threshold_keeps_both(device: str) -> None:
    # Intersection 2, union 4: the IoU is exactly 0.5.
    boxes = torch.tensor([[0.0, 0, 3, 1], [1, 0, 4, 1]], device=device)
    scores = torch.tensor([0.9, 0.8], device=device)
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, 0.499).tolist() == [0]


def test_a_suppressed_box_suppresses_nothing(device: str) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], device=device)
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.3).tolist() == [0, 2]


def test_ties_keep_the_lower_index_first(device: str) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3 + [[50.0, 50, 60, 60]], device=device)
    assert nms(boxes, torch.full((4,), 0.5, device=device), 0.5).tolist() == [0, 3]


def test_signed_zeros_tie(device: str) -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6]], device=device)
    assert nms(boxes, torch.tensor([-0.0, 0.0], device=device), 0.5).tolist() == [0, 1]


def test_scores_may_be_infinite_negative_and_nan(device: str) -> None:
    boxes = torch.tensor([[float(10 * i), 0, 10 * i + 1, 1] for i in range(5)], device=device)
    scores = torch.tensor([math.nan, -math.inf, -3.0, math.inf, 2.0], device=device)
    assert nms(boxes, scores, 0.5).tolist() == [3, 4, 2, 1, 0]


def test_nan_coordinates_never_suppress_and_are_never_suppressed(device: str) -> None:
    for position in range(4):
        boxes = torch.tensor([[0.0, 0, 10, 10]] * 3, device=device)
        boxes[0, position] = math.nan
        scores = torch.tensor([0.9, 0.8, 0.7], device=device)
        assert nms(boxes, scores, 0.5).tolist() == [0, 1], position


def test_inverted_and_empty_boxes_take_no_part(device: str) -> None:
    boxes = torch.tensor([[10.0, 10, 0, 0], [0, 0, 10, 10], [5, 5, 5, 5], [10, 0, 0, 10]], device=device)
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6], device=device), 0.0).tolist() == [0, 1, 2, 3]


def test_no_box_and_one_box(device: str) -> None:
    empty = nms(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5)
    assert empty.shape == (0,)
    assert empty.dtype == torch.int64
    assert nms(torch.ones(1, 4, device=device), torch.ones(1, device=device), 0.5).tolist() == [0]


def test_boxes_of_other_groups_survive(device: str) -> None:
    # Negative coordinates: the coordinate trick of other packages merges these two classes.
    boxes = torch.tensor([[-10.0, -10, -1, -1]] * 2, device=device)
    scores = torch.tensor([0.9, 0.8], device=device)
    assert batched_nms(boxes, scores, torch.tensor([0, 1], device=device), 0.5).tolist() == [0, 1]
    assert batched_nms(boxes, scores, torch.tensor([4, 4], device=device), 0.5).tolist() == [0]


def test_huge_group_numbers_and_coordinates_are_exact(device: str) -> None:
    boxes = torch.tensor([[1e6, 1e6, 1e6 + 4, 1e6 + 4]] * 3, device=device)
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    groups = torch.tensor([2**62, -(2**62), 2**62], device=device)
    assert batched_nms(boxes, scores, groups, 0.5).tolist() == [0, 1]


@pytest.mark.parametrize("count", [2, 15, 16, 17, 63, 64, 65, 300])
def test_equals_the_reference_at_odd_sizes(device: str, count: int) -> None:
    boxes, scores, groups = random_boxes(count, count), tied_scores(count, count), random_groups(count, count)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        expected = reference.batched_nms(boxes, scores, groups, threshold)
        actual = batched_nms(boxes.to(device), scores.to(device), groups.to(device), threshold)
        assert actual.tolist() == expected.tolist()


small = st.integers(-4, 6)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(small, small, small, small, st.integers(0, 3), st.integers(-1, 1)), max_size=40),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_equals_the_reference_on_grid_boxes(rows: list[tuple[int, ...]], threshold: float) -> None:
    # On a grid, ties of scores and IoUs equal to the threshold are common, inverted boxes too.
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    boxes, scores, groups = table[:, :4].contiguous(), table[:, 4] / 4, table[:, 5].long()
    expected = reference.batched_nms(boxes, scores, groups, threshold)
    assert batched_nms(boxes, scores, groups, threshold).tolist() == expected.tolist()
    assert nms(boxes, scores, threshold).tolist() == reference.nms(boxes, scores, threshold).tolist()


coordinate = st.one_of(st.integers(-4, 6), st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30]))
score = st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 0.25, 0.5, -1.0])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(coordinate, coordinate, coordinate, coordinate, score, st.sampled_from([0, -1, 2**40])), max_size=40
    ),
    threshold=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_equals_the_reference_where_numbers_are_not_finite(
    rows: list[tuple[float, float, float, float, float, int]], threshold: float
) -> None:
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).view(-1, 4)
    scores = torch.tensor([row[4] for row in rows], dtype=torch.float32)
    groups = torch.tensor([row[5] for row in rows], dtype=torch.int64)
    expected = reference.batched_nms(boxes, scores, groups, threshold)
    assert batched_nms(boxes, scores, groups, threshold).tolist() == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 200), seed=st.integers(0, 2**20), threshold=st.sampled_from([0.2, 0.5, 0.8]))
def test_the_order_of_the_boxes_does_not_matter(count: int, seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes, groups = random_boxes(count, seed), random_groups(count, seed)
    scores = torch.randperm(count, generator=generator) / count  # all different: ties go by index
    order = torch.randperm(count, generator=generator)
    kept = batched_nms(boxes, scores, groups, threshold)
    assert torch.equal(order[batched_nms(boxes[order], scores[order], groups[order], threshold)], kept)
    assert torch.equal(order[nms(boxes[order], scores[order], threshold)], nms(boxes, scores, threshold))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 120), seed=st.integers(0, 2**20), threshold=st.sampled_from([0.2, 0.5, 0.8]))
def test_kept_boxes_are_kept_again(count: int, seed: int, threshold: float) -> None:
    boxes, scores = random_boxes(count, seed), tied_scores(count, seed)
    kept = nms(boxes, scores, threshold)
    assert torch.equal(nms(boxes[kept], scores[kept], threshold), torch.arange(len(kept)))


def test_kept_boxes_do_not_overlap_and_others_do(device: str) -> None:
    # Too many boxes for the reference's loop, but the greedy rule can be checked on its result.
    count = 3000
    boxes, scores = random_boxes(count, 5, extent=300.0), torch.rand(count, generator=torch.Generator().manual_seed(6))
    kept = nms(boxes.to(device), scores.to(device), 0.4).cpu()
    assert torch.equal(scores[kept].sort(descending=True).values, scores[kept])
    exceeds = reference.overlaps(boxes, 0.4)[:, kept]
    stronger = scores[kept][None, :] > scores[:, None]
    is_kept = torch.zeros(count, dtype=torch.bool)
    is_kept[kept] = True
    assert torch.equal((exceeds & stronger).any(dim=1), ~is_kept)


def test_low_precision_boxes_equal_their_float32_values(device: str) -> None:
    boxes, scores = random_boxes(200, 1), tied_scores(200, 1)
    for dtype in (torch.float16, torch.bfloat16):
        low = boxes.to(dtype), scores.to(dtype)
        expected = nms(low[0].float(), low[1].float(), 0.5)
        assert nms(low[0].to(device), low[1].to(device), 0.5).tolist() == expected.tolist()


def test_non_contiguous_inputs(device: str) -> None:
    table = torch.cat([random_boxes(100, 2), tied_scores(100, 2)[:, None]], dim=1).to(device)
    boxes, scores = table[:, :4], table[:, 4]
    expected = nms(boxes.contiguous(), scores.contiguous(), 0.3)
    assert torch.equal(nms(boxes, scores, 0.3), expected)
    offset = torch.cat([torch.zeros(1, device=device), boxes.reshape(-1)])[1:].view(-1, 4)
    assert torch.equal(nms(offset, scores, 0.3), expected)


def test_agrees_with_torchvision() -> None:
    torchvision_ops = pytest.importorskip("torchvision.ops")
    boxes, groups = random_boxes(1000, 3), torch.arange(1000) % 5
    # All different: torchvision's order of ties is not stable.
    scores = torch.randperm(1000, generator=torch.Generator().manual_seed(4)) / 1000
    for threshold in (0.2, 0.5, 0.8):
        assert torch.equal(nms(boxes, scores, threshold), torchvision_ops.nms(boxes, scores, threshold))
        expected = torchvision_ops.boxes._batched_nms_vanilla(boxes, scores, groups, threshold)
        assert torch.equal(batched_nms(boxes, scores, groups, threshold), expected)


def test_errors_name_the_argument_and_its_shape() -> None:
    with pytest.raises(ValueError, match=r"`boxes` must have shape \[\*, 4\], got \[3, 5\]"):
        nms(torch.zeros(3, 5), torch.zeros(3), 0.5)
    with pytest.raises(ValueError, match=r"`scores` must have shape \[3\], got \[2\]"):
        nms(torch.zeros(3, 4), torch.zeros(2), 0.5)
    with pytest.raises(ValueError, match=r"`groups` must have dtype torch.int64, got torch.float32"):
        batched_nms(torch.zeros(3, 4), torch.zeros(3), torch.zeros(3), 0.5)
    with pytest.raises(ValueError, match=r"`iou_threshold` must lie in \[0, 1\], got 1.5"):
        nms(torch.zeros(3, 4), torch.zeros(3), 1.5)
    with pytest.raises(ValueError, match="`boxes` must be floating point"):
        nms(torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3), 0.5)
