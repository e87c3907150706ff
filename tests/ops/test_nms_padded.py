"""nms_padded: the rule of nms for a batch, in fixed slots and without host syncs."""

import pytest
import torch

from fastdet.ops import batched_nms, nms_padded, reference
from tests.ops.samples import random_boxes, random_groups, tied_scores


def batch_of(count: int, batch: int = 3) -> tuple[torch.Tensor, ...]:
    boxes = torch.stack([random_boxes(count, seed) for seed in range(batch)])
    scores = torch.stack([tied_scores(count, seed) for seed in range(batch)])
    groups = torch.stack([random_groups(count, seed) for seed in range(batch)])
    valid = torch.rand(batch, count, generator=torch.Generator().manual_seed(9)) > 0.3
    return boxes, scores, groups, valid


@pytest.mark.parametrize("count", [1, 16, 63, 64, 65, 129, 200])
@pytest.mark.parametrize("max_output", [1, 7, 500])
def test_equals_the_reference(device: str, count: int, max_output: int) -> None:
    boxes, scores, groups, valid = batch_of(count)
    for with_groups in (False, True):
        for with_valid in (False, True):
            arguments = (groups if with_groups else None, 0.4, max_output, valid if with_valid else None)
            expected = reference.nms_padded(boxes, scores, *arguments)
            moved = [a.to(device) if isinstance(a, torch.Tensor) else a for a in (boxes, scores, *arguments)]
            index, kept = nms_padded(*moved)
            assert kept.tolist() == expected[1].tolist()
            assert index.tolist() == expected[0].tolist()


def test_unused_slots_hold_zero(device: str) -> None:
    boxes = torch.tensor([[[0.0, 0, 1, 1], [5, 5, 6, 6], [0, 0, 1, 1]]], device=device)
    index, count = nms_padded(boxes, torch.tensor([[0.1, 0.2, 0.3]], device=device), None, 0.5, 5)
    assert index.tolist() == [[2, 1, 0, 0, 0]]
    assert count.tolist() == [2]


def test_non_contiguous_inputs(device: str) -> None:
    boxes, scores, groups, valid = (tensor.to(device) for tensor in batch_of(50))
    plain = nms_padded(boxes, scores, groups, 0.4, 20, valid)
    table = torch.cat([boxes, scores[..., None]], dim=2).transpose(0, 1).contiguous().transpose(0, 1)
    wide = groups.repeat_interleave(2, 1)[:, ::2], valid.t().contiguous().t()
    strided = nms_padded(table[..., :4], table[..., 4], wide[0], 0.4, 20, wide[1])
    assert all(torch.equal(a, b) for a, b in zip(strided, plain, strict=True))


def test_the_best_boxes_fill_the_slots(device: str) -> None:
    boxes, scores, groups, _ = (tensor.to(device) for tensor in batch_of(150))
    index, count = nms_padded(boxes, scores, groups, 0.6, 10)
    assert count.tolist() == [10, 10, 10]
    for b in range(3):
        assert torch.equal(index[b], batched_nms(boxes[b], scores[b], groups[b], 0.6)[:10])


def test_empty_sizes(device: str) -> None:
    for batch, size, slots in ((0, 5, 3), (2, 0, 3), (2, 5, 0), (0, 0, 0)):
        boxes, scores = torch.zeros(batch, size, 4, device=device), torch.zeros(batch, size, device=device)
        index, count = nms_padded(boxes, scores, None, 0.5, slots)
        assert index.shape == (batch, slots)
        assert index.dtype == count.dtype == torch.int64
        assert index.sum() == count.sum() == 0


def test_no_valid_box_keeps_nothing(device: str) -> None:
    boxes = random_boxes(80, 0)[None].to(device)
    valid = torch.zeros(1, 80, dtype=torch.bool, device=device)
    index, count = nms_padded(boxes, tied_scores(80, 0)[None].to(device), None, 0.5, 4, valid)
    assert index.tolist() == [[0, 0, 0, 0]]
    assert count.tolist() == [0]


def test_nan_scores_come_before_boxes_that_are_not_valid(device: str) -> None:
    boxes = torch.tensor([[[0.0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]]], device=device)
    scores = torch.tensor([[1.0, float("nan"), 0.5]], device=device)
    valid = torch.tensor([[False, True, True]], device=device)
    index, count = nms_padded(boxes, scores, None, 0.5, 3, valid)
    assert index.tolist() == [[2, 1, 0]]
    assert count.tolist() == [2]


def test_errors_name_the_argument() -> None:
    boxes, scores = torch.zeros(2, 3, 4), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"`valid` must have dtype torch.bool"):
        nms_padded(boxes, scores, None, 0.5, 4, torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"`groups` must have shape \[2, 3\], got \[2, 4\]"):
        nms_padded(boxes, scores, torch.zeros(2, 4, dtype=torch.int64), 0.5, 4)
    with pytest.raises(ValueError, match="`max_output` must not be negative, got -1"):
        nms_padded(boxes, scores, None, 0.5, -1)


@pytest.mark.cuda
def test_runs_without_a_host_sync_and_in_a_graph(cuda: str) -> None:
    boxes, scores, groups, valid = (tensor.to(cuda) for tensor in batch_of(300))
    expected = nms_padded(boxes, scores, groups, 0.5, 50, valid)
    torch.cuda.set_sync_debug_mode("error")
    try:
        nms_padded(boxes, scores, groups, 0.5, 50, valid)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = nms_padded(boxes, scores, groups, 0.5, 50, valid)
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))
