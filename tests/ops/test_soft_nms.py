"""soft_nms, soft_nms_padded and nms_match: known values, the rule, groups, ties, and numbers of MMCV's own tests."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastdet.ops import nms, nms_match, reference, soft_nms, soft_nms_padded
from fastdet.ops.soft_nms import METHODS, SoftNmsMethod
from tests.ops.samples import random_boxes, random_groups, tied_scores

BOXES = torch.tensor([[6.0, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]])
SCORES = torch.tensor([0.6, 0.9, 0.7, 0.2])
EXPECTED: dict[SoftNmsMethod, tuple[list[int], list[float]]] = {
    "linear": ([1, 0, 2, 3], [0.9, 0.6, 0.29024392, 0.2]),
    "gaussian": ([1, 0, 2, 3], [0.9, 0.59630775, 0.35275510, 0.18650459]),
    "naive": ([1, 0, 3], [0.9, 0.6, 0.2]),
}


def different_scores(count: int, seed: int) -> Tensor:
    return (1 + torch.randperm(count, generator=torch.Generator().manual_seed(seed))) / count


@pytest.mark.parametrize("method", METHODS)
def test_known_boxes_have_mmcvs_scores(device: str, method: SoftNmsMethod) -> None:
    boxes, scores = BOXES.to(device), SCORES.to(device)
    index, final = soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=0.01, method=method)
    assert index.tolist() == EXPECTED[method][0]
    assert final.tolist() == pytest.approx(EXPECTED[method][1], rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 64, 65, 200])
def test_equals_the_reference(device: str, method: SoftNmsMethod, count: int) -> None:
    boxes, scores, groups = random_boxes(count, count, 80.0), different_scores(count, count), random_groups(count, 1)
    for chosen in (None, groups):
        wide = boxes.double(), scores.double()
        expected = reference.soft_nms(*wide, 0.25, min_score=0.05, method=method, groups=chosen)
        own = None if chosen is None else chosen.to(device)
        index, final = soft_nms(boxes.to(device), scores.to(device), 0.25, min_score=0.05, method=method, groups=own)
        assert index.tolist() == expected[0].tolist()
        # Every score is a product of at most 30 factors here, each rounded a few times.
        torch.testing.assert_close(final.cpu().double(), expected[1], rtol=1e-5, atol=0)


def test_naive_is_plain_suppression_with_a_least_score(device: str) -> None:
    boxes, scores = random_boxes(300, 2).to(device), different_scores(300, 3).to(device)
    index, final = soft_nms(boxes, scores, 0.5, min_score=0.2, method="naive")
    kept = nms(boxes, scores, 0.5)
    kept = kept[scores[kept] >= 0.2]
    assert torch.equal(index, kept)
    assert torch.equal(final, scores[kept])


def test_final_scores_descend_and_others_lower_them(device: str) -> None:
    boxes, scores = random_boxes(2000, 4, extent=150.0), different_scores(2000, 5)
    index, final = soft_nms(boxes.to(device), scores.to(device), 0.3, min_score=1e-3)
    assert torch.equal(final.sort(descending=True).values, final)
    assert (final.cpu() <= scores[index.cpu()]).all()
    assert len(index.unique()) == len(index)
    assert index[0] == scores.argmax()


@pytest.mark.parametrize("method", METHODS)
def test_padded_cuts_and_pads_what_the_other_gives(device: str, method: SoftNmsMethod) -> None:
    boxes, scores = random_boxes(120, 6).view(2, 60, 4).to(device), different_scores(120, 7).view(2, 60).to(device)
    groups, valid = random_groups(120, 8).view(2, 60).to(device), (scores > 0.1).to(device)
    for slots in (0, 1, 9, 70):
        index, final, count = soft_nms_padded(boxes, scores, groups, 0.3, slots, valid, method=method)
        assert index.shape == final.shape == (2, slots)
        for b in range(2):
            places = valid[b].nonzero()[:, 0]
            expected = soft_nms(boxes[b, places], scores[b, places], 0.3, method=method, groups=groups[b, places])
            number = min(slots, len(expected[0]))
            assert count[b] == number
            assert torch.equal(index[b, :number], places[expected[0]][:number])
            assert torch.equal(final[b, :number], expected[1][:number])
            assert index[b, number:].tolist() == [0] * (slots - number)
            assert final[b, number:].tolist() == [0] * (slots - number)


def test_groups_do_not_lower_each_others_scores(device: str) -> None:
    boxes = torch.tensor([[-10.0, -10, -1, -1]] * 3, device=device)
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    index, final = soft_nms(boxes, scores, 0.3, groups=torch.tensor([4, -(2**62), 4], device=device))
    assert index.tolist() == [0, 1]
    assert final.tolist() == pytest.approx([0.9, 0.8])


def test_ties_take_the_lower_index_first_within_and_across_groups(device: str) -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [50, 0, 54, 4], [90, 0, 94, 4]], device=device)
    scores = torch.full((4,), 0.5, device=device)
    index, final = soft_nms(boxes, scores, 0.3)
    assert index.tolist() == [0, 2, 3, 1]
    assert final.tolist() == pytest.approx([0.5, 0.5, 0.5, 0.25])
    index, _ = soft_nms(boxes, scores, 0.3, groups=torch.tensor([9, 1, 5, 1], device=device))
    assert index.tolist() == [0, 1, 2, 3]


def test_if_all_scores_are_too_low_the_best_box_stays_alone(device: str) -> None:
    scores = torch.tensor([0.1, 0.3, 0.2, 0.05], device=device)
    index, final = soft_nms(BOXES.to(device), scores, 0.3, min_score=0.5)
    assert index.tolist() == [1]
    assert final.tolist() == pytest.approx([0.3])


def test_scores_and_boxes_that_are_not_finite(device: str) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 5 + [[math.nan, 0, 10, 10], [5, 5, 5, 5], [10, 10, 0, 0]], device=device)
    scores = torch.tensor([math.nan, math.inf, -math.inf, 0.5, 0.4, 0.9, 0.8, 0.7], device=device)
    for method in METHODS:
        index, final = soft_nms(boxes, scores, 0.5, min_score=0.3, method=method)
        assert index.tolist() == [1, 5, 6, 7], method
        assert final.tolist() == pytest.approx([math.inf, 0.9, 0.8, 0.7])
    index, final = soft_nms(boxes[:1], torch.full((1,), math.nan, device=device))
    assert index.tolist() == []
    assert final.tolist() == []


def test_no_boxes_and_no_valid_box(device: str) -> None:
    index, final = soft_nms(torch.zeros(0, 4, device=device), torch.zeros(0, device=device))
    assert index.shape == final.shape == (0,)
    boxes, scores = torch.ones(2, 3, 4, device=device), torch.ones(2, 3, device=device)
    none = torch.zeros(2, 3, dtype=torch.bool, device=device)
    assert soft_nms_padded(boxes, scores, None, 0.5, 4, none)[2].tolist() == [0, 0]
    assert soft_nms_padded(boxes[:0], scores[:0], None, 0.5, 4)[0].shape == (0, 4)


small = st.integers(-4, 6)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(small, small, small, small, st.integers(0, 3), st.integers(-1, 1)), max_size=30),
    method=st.sampled_from(METHODS[:2]),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_equals_the_reference_on_grid_boxes(
    rows: list[tuple[int, ...]], method: SoftNmsMethod, threshold: float
) -> None:
    # Ties are common here, so both compute in float32 with the same roundings, which an exponential would not have.
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    boxes, scores, groups = table[:, :4].contiguous(), table[:, 4] / 4 + 0.25, table[:, 5].long()
    expected = reference.soft_nms(boxes, scores, threshold, min_score=0.051, method=method, groups=groups)
    index, final = soft_nms(boxes, scores, threshold, min_score=0.051, method=method, groups=groups)
    assert index.tolist() == expected[0].tolist()
    assert final.tolist() == expected[1].tolist()


def test_soft_nms_agrees_with_mmcv() -> None:
    mmcv_ops = pytest.importorskip("mmcv.ops")
    boxes, scores = random_boxes(400, 9, 150.0), different_scores(400, 10)
    for method in METHODS:
        expected, kept = mmcv_ops.soft_nms(boxes, scores, 0.3, 0.5, 0.01, method)
        index, final = soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=0.01, method=method)
        assert torch.equal(index, kept)
        torch.testing.assert_close(final, expected[:, 4], rtol=1e-5, atol=0)


def test_every_box_knows_its_owner(device: str) -> None:
    owners = nms_match(BOXES.to(device), SCORES.to(device), 0.3)
    assert owners.tolist() == [0, 1, 1, 3]
    # Intersection 2, union 4: an IoU equal to the threshold is enough, other than in `nms`.
    boxes = torch.tensor([[0.0, 0, 3, 1], [1, 0, 4, 1]], device=device)
    assert nms_match(boxes, torch.tensor([0.8, 0.9], device=device), 0.5).tolist() == [1, 1]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 100, 300])
def test_matches_equal_the_reference(device: str, count: int) -> None:
    boxes, scores = random_boxes(count, count), tied_scores(count, count)
    scores[::7] = math.nan
    scores[::11] = -math.inf
    boxes[::13, 2] = math.nan
    boxes[::17, 2:] = boxes[::17, :2]
    expected = reference.nms_match(boxes, scores, 0.3)
    assert nms_match(boxes.to(device), scores.to(device), 0.3).tolist() == expected.tolist()


def test_no_box_has_no_owner(device: str) -> None:
    assert nms_match(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5).shape == (0,)


def test_non_contiguous_inputs(device: str) -> None:
    table = torch.cat([random_boxes(100, 2), different_scores(100, 2)[:, None]], dim=1).to(device)
    boxes, scores = table[:, :4], table[:, 4]
    plain = boxes.contiguous(), scores.contiguous()
    for a, b in zip(soft_nms(boxes, scores), soft_nms(*plain), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(nms_match(boxes, scores, 0.3), nms_match(*plain, 0.3))
    batch = soft_nms_padded(boxes.expand(2, -1, -1), scores.expand(2, -1), None, 0.5, 9)
    assert torch.equal(batch[0][1], soft_nms_padded(plain[0][None], plain[1][None], None, 0.5, 9)[0][0])
    offset = torch.cat([torch.zeros(1, device=device), boxes.reshape(-1)])[1:].view(-1, 4)
    assert torch.equal(soft_nms(offset, scores)[0], soft_nms(*plain)[0])


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"`method` must be 'naive', 'linear' or 'gaussian', got 'hard'"):
        soft_nms(BOXES, SCORES, method="hard")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`sigma` must be positive, got 0"):
        soft_nms(BOXES, SCORES, sigma=0)
    with pytest.raises(ValueError, match=r"`groups` must have shape \[4\], got \[3\]"):
        soft_nms(BOXES, SCORES, groups=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`scores` must have shape \[1, 4\], got \[4\]"):
        soft_nms_padded(BOXES[None], SCORES, None, 0.5, 3)
    with pytest.raises(ValueError, match=r"`iou_threshold` must lie in \[0, 1\], got 2"):
        nms_match(BOXES, SCORES, 2.0)
