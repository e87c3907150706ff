"""The bodies of ops in exported graphs compute what the ops compute."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastdet import ops
from fastdet.deploy import static_attention, static_ops, static_sampling, static_soft_nms
from fastdet.ops.soft_nms import METHODS


def boxes_in(size: float, *shape: int, generator: torch.Generator) -> Tensor:
    low = torch.rand(*shape, 2, generator=generator) * size * 0.9
    high = low + torch.rand(*shape, 2, generator=generator) * size * 0.4
    return torch.cat((low, high.clamp(max=size)), dim=-1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    number=st.integers(1, 60),
    threshold=st.floats(0, 1),
    slots=st.integers(1, 80),
    levels=st.integers(1, 4),
    same=st.booleans(),
)
def test_fixed_point_suppression_is_greedy_where_it_says_so(
    seed: int, number: int, threshold: float, slots: int, levels: int, same: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = boxes_in(40, 2, number, generator=generator)
    scores = torch.rand(2, number, generator=generator)
    if same:  # ties
        scores = (scores * 3).floor() / 3
    groups = torch.randint(levels, (2, number), generator=generator)
    valid = torch.rand(2, number, generator=generator) > 0.2
    index, count = ops.nms_padded(boxes, scores, groups, threshold, slots, valid=valid)
    found = static_ops.nms_padded(boxes, scores, groups, valid, threshold, slots, candidates=number, rounds=number + 1)
    assert found[2].tolist() == [1, 1]
    assert torch.equal(found[0], index)
    assert torch.equal(found[1], count)


def test_few_rounds_are_seen() -> None:
    """Each of 9 boxes overlaps its neighbours alone: greedy keeps every second one, after as many rounds."""
    left = torch.arange(9.0) * 4
    boxes = torch.stack((left, torch.zeros(9), left + 10, torch.ones(9)), dim=1)[None]
    scores = torch.linspace(1, 0.1, 9)[None]

    def run(rounds: int) -> tuple[Tensor, ...]:
        return static_ops.nms_padded(boxes, scores, None, None, 0.4, 9, candidates=9, rounds=rounds)

    index, count, exact = run(10)
    assert index[0, : count[0]].tolist() == [0, 2, 4, 6, 8]
    assert exact.tolist() == [1]
    assert run(3)[2].tolist() == [0]


def test_candidates_that_were_cut_off_are_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, scores = boxes_in(100, 1, 50, generator=generator), torch.rand(1, 50, generator=generator)
    few = static_ops.nms_padded(boxes, scores, None, None, 0.5, 40, candidates=20, rounds=20)
    assert few[2].tolist() == [0]
    index, count = ops.nms_padded(boxes, scores, None, 0.5, 5)
    filled = static_ops.nms_padded(boxes, scores, None, None, 0.5, 5, candidates=20, rounds=20)
    assert filled[2].tolist() == [1]
    assert torch.equal(filled[0], index)
    assert torch.equal(filled[1], count)


def test_nothing_to_suppress_is_exact() -> None:
    nothing = torch.zeros(2, 6, dtype=torch.bool)
    index, count, exact = static_ops.nms_padded(
        torch.zeros(2, 6, 4), torch.zeros(2, 6), None, nothing, 0.5, 4, candidates=6, rounds=2
    )
    assert (index.tolist(), count.tolist(), exact.tolist()) == ([[0] * 4] * 2, [0, 0], [1, 1])


@pytest.mark.parametrize("slots", [5, 90])
def test_levels_are_suppressed_apart(slots: int) -> None:
    generator = torch.Generator().manual_seed(1)
    boxes, scores = boxes_in(60, 2, 70, generator=generator), torch.rand(2, 70, generator=generator)
    valid = torch.rand(2, 70, generator=generator) > 0.1
    index, count = ops.nms_levels(boxes, scores, valid, (40, 20, 10), 0.6, slots)
    found = static_ops.nms_levels(boxes, scores, valid, (40, 20, 10), 0.6, slots, rounds=20)
    assert torch.equal(found[0], index)
    assert torch.equal(found[1], count)
    assert found[2].tolist() == [1, 1]


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_by_gathers_equals_the_op(ratio: int, aligned: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    height, width = 96, 128
    features = [torch.randn(2, 4, height // s, width // s, generator=generator) for s in (4, 8, 16, 32)]
    low = torch.rand(200, 2, generator=generator) * torch.tensor([width, height]) * 0.95
    high = torch.minimum(low + (torch.rand(200, 2, generator=generator) * 5).exp(), torch.tensor([width, height]))
    rois = torch.cat((torch.randint(2, (200, 1), generator=generator).float(), low, high), dim=1)
    rois[0, 1:] = torch.tensor([0.0, 0, width, height])
    rois[1, 1:] = 0  # an empty slot
    rois[2, 1:] = torch.tensor([0.0, 40, width, 43])  # as long and thin as they come
    rois[3, 1:] = torch.tensor([60.0, 0, 61, height])
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    expected = ops.roi_align(features, rois, 7, scales, sampling_ratio=ratio, aligned=aligned)
    found = static_sampling.roi_align(features, rois, None, scales, (7, 7), ratio, aligned, 56.0, area_factor=1.0)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_enlarged_rois_with_given_levels_equal_the_op() -> None:
    generator = torch.Generator().manual_seed(3)
    features = [torch.randn(1, 4, 64 // s, 64 // s, generator=generator) for s in (4, 8)]
    inside = boxes_in(64, 50, generator=generator)
    centre, half = (inside[:, :2] + inside[:, 2:]) / 2, (inside[:, 2:] - inside[:, :2]) * 0.65
    rois = torch.cat((torch.zeros(50, 1), centre - half, centre + half), dim=1)
    levels = torch.randint(2, (50,), generator=generator)
    expected = ops.roi_align(features, rois, 7, [1 / 4, 1 / 8], levels=levels)
    found = static_sampling.roi_align(features, rois, levels, [1 / 4, 1 / 8], (7, 7), 0, True, 56.0, area_factor=1.3**2)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_gathered_cells_hold_the_longest_roi_of_a_level() -> None:
    """All of the last level, or the longest RoI of 28 x 28 cells: 199 x 3.94, which touches less than 202 x 6.94."""
    assert static_sampling.window_cells([(64, 64), (32, 32)], [1 / 4, 1 / 8], 56.0, 1.0) == 34 * 34
    assert static_sampling.window_cells([(16, 200), (8, 100)], [1 / 4, 1 / 8], 56.0, 1.0) == 1402


@pytest.mark.parametrize(
    ("offset_groups", "groups", "stride", "with_mask"), [(1, 1, 1, False), (2, 2, 2, True), (1, 4, 1, True)]
)
def test_deformable_convolution_by_gathers_equals_the_op(
    offset_groups: int, groups: int, stride: int, with_mask: bool
) -> None:
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randn(2, 8, 11, 9, generator=generator)
    weight, bias = torch.randn(12, 8 // groups, 3, 3, generator=generator), torch.randn(12, generator=generator)
    sides = ((11 - 1) // stride + 1, (9 - 1) // stride + 1)
    offset = torch.randn(2, offset_groups * 18, *sides, generator=generator) * 3
    mask = torch.rand(2, offset_groups * 9, *sides, generator=generator) if with_mask else None
    expected = ops.deform_conv2d(pixels, offset, weight, bias, stride, 1, 1, mask)
    found = static_sampling.deform_conv2d(pixels, offset, mask, weight, bias, (stride, stride), (1, 1), (1, 1))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("points", "scale"), [(1, 1.0), (3, 1.6)])
def test_deformable_attention_by_gathers_equals_the_op(points: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = [(5, 7), (3, 4), (1, 2)]
    value = torch.randn(2, 35 + 12 + 2, 2, 6, generator=generator)
    locations = (torch.rand(2, 9, 2, 3, points, 2, generator=generator) - 0.5) * scale + 0.5  # some lie outside
    locations[0, 0, 0, 0, 0] = torch.nan
    locations[0, 1, 0, 0, 0, 0] = torch.inf
    weights = torch.rand(2, 9, 2, 3, points, generator=generator)
    sizes = [side for shape in shapes for side in shape]
    expected = ops.ms_deform_attn(value, shapes, locations, weights)
    found = static_attention.ms_deform_attn(value, sizes, locations, weights)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    half = static_attention.ms_deform_attn(value.half(), sizes, locations, weights)
    torch.testing.assert_close(half, ops.ms_deform_attn(value.half(), shapes, locations, weights), atol=1e-3, rtol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    number=st.integers(1, 30),
    threshold=st.floats(0.05, 0.95),
    slots=st.integers(1, 40),
    method=st.sampled_from(METHODS),
    candidates=st.integers(1, 30),
    min_score=st.sampled_from([0.0, 1e-3, 0.3]),
)
def test_soft_suppression_by_steps_is_the_op_where_it_says_so(
    seed: int, number: int, threshold: float, slots: int, method: str, candidates: int, min_score: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = boxes_in(40, 2, number, generator=generator)
    scores = torch.rand(2, number, generator=generator)
    groups = torch.randint(3, (2, number), generator=generator)
    valid = torch.rand(2, number, generator=generator) > 0.2
    index, final, count = ops.soft_nms_padded(
        boxes, scores, groups, threshold, slots, valid, min_score=min_score, method=method
    )
    found = static_soft_nms.soft_nms_padded(
        boxes, scores, groups, valid, METHODS.index(method), threshold, 0.5, min_score, slots, candidates=candidates
    )
    if candidates >= number:
        assert found[3].tolist() == [1, 1]
    for image in range(2):
        if found[3][image]:
            assert found[2][image] == count[image]
            torch.testing.assert_close(found[1][image], final[image], atol=1e-6, rtol=1e-5)
            assert torch.equal(found[0][image], index[image])
