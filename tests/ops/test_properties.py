"""Any input: ops whose own files have no property test equal their references, on lattices where ties are common."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastdet import ops
from fastdet.ops import reference
from fastdet.ops.reference_masks import pasted_probabilities

cell = st.integers(-6, 14)
quarter = st.integers(-20, 60).map(lambda number: number / 4)
side = st.integers(1, 9)
seed = st.integers(0, 2**20)


def boxes_of(*numbers: st.SearchStrategy[float], most: int = 8) -> st.SearchStrategy[Tensor]:
    """Up to `most` rows of these numbers."""
    rows = st.lists(st.tuples(*numbers), max_size=most)
    return rows.map(lambda found: torch.tensor(found, dtype=torch.float32).view(-1, len(numbers)))


def noise(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=30, deadline=None)
@given(
    rois=boxes_of(st.integers(0, 1), quarter, quarter, quarter, quarter, most=4),
    size=st.tuples(side, side),
    output=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    sampling_ratio=st.integers(0, 3),
    aligned=st.booleans(),
    channels_last=st.booleans(),
    seed=seed,
)
def test_roi_align(
    rois: Tensor,
    size: tuple[int, int],
    output: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
    channels_last: bool,
    seed: int,
) -> None:
    feature = noise(2, 3, *size, seed=seed)
    levels = torch.zeros(len(rois), dtype=torch.int64)
    arguments = (rois.double(), output, [0.5], sampling_ratio, aligned)
    expected = reference.roi_align([feature], *arguments, levels=levels)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    actual = ops.roi_align([feature.contiguous(memory_format=layout)], *arguments)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    rois=boxes_of(st.integers(0, 1), quarter, quarter, quarter, quarter, most=4),
    size=st.tuples(side, side),
    output=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    rounded=st.booleans(),
    layouts=st.tuples(st.booleans(), st.integers(1, 20)),
    seed=seed,
)
def test_roi_pool(
    rois: Tensor,
    size: tuple[int, int],
    output: tuple[int, int],
    rounded: bool,
    layouts: tuple[bool, int],
    seed: int,
) -> None:
    channels_last, channels = layouts
    values = noise(2, channels, *size, seed=seed).round()  # ties: the gradient goes to the first
    layout = torch.channels_last if channels_last else torch.contiguous_format
    own, wanted = values.float().contiguous(memory_format=layout).requires_grad_(), values.requires_grad_()
    levels = torch.zeros(len(rois), dtype=torch.int64)
    found = ops.roi_pool([own], rois, output, [0.5], rounded=rounded)
    expected = reference.roi_pool([wanted], rois.double(), output, [0.5], rounded=rounded, levels=levels)
    assert torch.equal(found.double(), expected)
    if expected.requires_grad:  # not where no bin has a cell
        slope = noise(*expected.shape, seed=seed + 1).round()
        gradient = torch.autograd.grad(found, own, slope.float())[0]
        # The reference's maximum splits nothing either, but may send the gradient to another of equal cells.
        assert gradient.sum() == torch.autograd.grad(expected, wanted, slope)[0].sum()


@settings(max_examples=40, deadline=None)
@given(first=boxes_of(cell, cell, cell, cell), second=boxes_of(cell, cell, cell, cell))
def test_box_iou(first: Tensor, second: Tensor) -> None:
    for kind in ("iou", "giou", "iof"):
        expected = reference.box_iou(first.double(), second.double(), kind=kind)
        torch.testing.assert_close(ops.box_iou(first, second, kind=kind).double(), expected, rtol=1e-6, atol=1e-6)
    partners = first.flip(0)
    for kind in ("iou", "giou", "diou", "ciou"):
        expected = reference.paired_box_iou(first.double(), partners.double(), kind=kind)
        actual = ops.paired_box_iou(first, partners, kind=kind).double()
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3),
    anchors=st.integers(1, 3),
    stride=st.sampled_from([1.0, 7.5, 16.0]),
    seed=seed,
)
def test_grid_anchors(sizes: list[tuple[int, int]], anchors: int, stride: float, seed: int) -> None:
    base = noise(len(sizes), anchors, 4, seed=seed, dtype=torch.float32)
    strides = [(stride, 2 * stride)] * len(sizes)
    assert torch.equal(ops.grid_anchors(base, sizes, strides), reference.grid_anchors(base, sizes, strides))


@settings(max_examples=30, deadline=None)
@given(
    boxes=boxes_of(quarter, quarter, quarter, quarter, most=4),
    window=st.tuples(st.integers(0, 5), st.integers(0, 5), side, side),
    output_size=st.integers(1, 4),
    seed=seed,
)
def test_crop_masks(boxes: Tensor, window: tuple[int, int, int, int], output_size: int, seed: int) -> None:
    bits = (noise(window[2] * window[3], seed=seed) > 0).to(torch.uint8)
    masks = (bits, torch.zeros(1, dtype=torch.int64), torch.tensor([window], dtype=torch.int32))
    index = torch.zeros(len(boxes), dtype=torch.int64)
    expected = reference.crop_masks(*masks, index, boxes.double(), output_size, (15, 14))
    actual = ops.crop_masks(*masks, index, boxes, output_size, (15, 14))
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(boxes=boxes_of(quarter, quarter, quarter, quarter, most=4), size=st.tuples(side, side), seed=seed)
def test_paste_masks(boxes: Tensor, size: tuple[int, int], seed: int) -> None:
    masks = torch.rand(len(boxes), 3, 3, generator=torch.Generator().manual_seed(seed))
    values = pasted_probabilities(masks.double(), boxes.double(), size)
    actual = ops.paste_masks(masks, boxes, size, 0.4)
    expected = reference.paste_masks(masks.double(), boxes.double(), size, 0.4)
    assert ((actual == expected) | ((values - 0.4).abs() < 1e-5)).all()


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 5), st.integers(1, 20)),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.7]),
    spread=st.sampled_from([0.1, 3.0, 60.0]),
    seed=seed,
)
def test_sigmoid_focal_loss(shape: tuple[int, int], gamma: float, spread: float, seed: int) -> None:
    logits = spread * noise(*shape, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, shape[1] + 1, shape[:1], generator=generator)
    expected = reference.sigmoid_focal_loss(logits, labels, gamma=gamma)
    torch.testing.assert_close(ops.sigmoid_focal_loss(logits, labels, gamma=gamma), expected, rtol=1e-9, atol=1e-30)


@settings(max_examples=30, deadline=None)
@given(table=boxes_of(cell, cell, cell, cell, st.integers(0, 3), st.integers(0, 3), most=24), slots=st.integers(0, 9))
def test_nms_padded_and_nms_match(table: Tensor, slots: int) -> None:
    table = table[: len(table) // 2 * 2]
    boxes, scores, groups = table[:, :4], table[:, 4] / 4, table[:, 5].long() % 2
    batch = (boxes.view(2, -1, 4), scores.view(2, -1), groups.view(2, -1))
    valid = table[:, 5].view(2, -1) < 3
    for given_groups, given_valid in ((None, None), (batch[2], None), (batch[2], valid)):
        expected = reference.nms_padded(*batch[:2], given_groups, 0.25, slots, given_valid)
        actual = ops.nms_padded(*batch[:2], given_groups, 0.25, slots, given_valid)
        assert [a.tolist() for a in actual] == [e.tolist() for e in expected]
    owners = reference.nms_match(boxes, scores, 0.25)
    assert ops.nms_match(boxes, scores, 0.25).tolist() == owners.tolist()


@settings(max_examples=12, deadline=None)
@given(
    count=st.integers(512, 640),
    extent=st.sampled_from([30.0, 300.0, 1e4]),
    threshold=st.sampled_from([0.0, 0.05, 0.5, 0.7, 1.0]),
    whole=st.booleans(),
    seed=seed,
)
def test_nms_of_enough_boxes_for_a_grid(count: int, extent: float, threshold: float, whole: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = extent * torch.rand(count, 2, generator=generator) - extent / 3
    boxes = torch.cat((corner, corner + 60 * torch.rand(count, 2, generator=generator) - 2), dim=1)
    boxes = boxes.round() if whole else boxes
    scores = torch.randint(0, 200, (count,), generator=generator) / 200
    assert ops.nms(boxes, scores, threshold).tolist() == reference.nms(boxes, scores, threshold).tolist()
