"""Dense post-processing: candidates, boxes, NMS and fixed slots in one op."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastdet import ops
from fastdet.ops import reference
from tests.ops.samples import random_boxes

SIZES, STRIDES = ((5, 7), (3, 4), (1, 1)), ((8.0, 8.0), (16.0, 17.0), (32.0, 32.0))
CODES = {
    "delta": ops.delta_code((0.1, 0, 0, 0), (0.5, 0.5, 0.2, 0.2)),
    "delta, limited": ops.delta_code(center_limit=4.0, clips=False),
    "distance": ops.distance_code(),
    "distance, in cells": ops.distance_code(1.0, clips=False),
    "distribution": ops.distribution_code(0.5),
    "cell": ops.cell_code(),
}


def case(kind: str, seed: int, batch: int = 2, anchors: int = 2, classes: int = 3) -> tuple[Any, ...]:
    """Logits on a coarse lattice, so that ties are common, numbers, base anchors, image sizes and levels."""
    generator = torch.Generator().manual_seed(seed)
    total = anchors * sum(height * width for height, width in SIZES)
    logits = torch.randint(-8, 5, (batch, total, classes), generator=generator) / 2
    width = 20 if kind == "distribution" else 4
    scale = 20.0 if kind == "distance" else 1.0
    codes = torch.randn(batch, total, width, generator=generator) * scale
    base = random_boxes(len(SIZES) * anchors, seed, 0.0, 20.0).view(len(SIZES), anchors, 4)
    image_sizes = torch.tensor([[40.0, 56.0], [33.0, 50.0]])[:batch]
    return logits, codes, base, image_sizes, ops.Levels(SIZES, [anchors] * len(SIZES), STRIDES), CODES[kind]


def moved(arguments: tuple[Any, ...], device: str) -> list[Any]:
    return [value.to(device) if isinstance(value, Tensor) else value for value in arguments]


def assert_equal(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    boxes, scores, labels, counts = (value.cpu() for value in actual)
    assert counts.tolist() == expected[3].tolist()
    assert torch.equal(labels, expected[2])
    torch.testing.assert_close(scores, expected[1])
    torch.testing.assert_close(boxes, expected[0], equal_nan=True, rtol=1e-5, atol=1e-4)


def test_known_detections(device: str) -> None:
    priors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [190, 90, 210, 110]])
    logits = torch.tensor([[[0.9, 0.1], [0.8, 0.7], [0.2, 0.3], [0.6, 0.1]]]).logit()
    arguments = (logits, torch.zeros(1, 4, 4), priors, torch.tensor([[100.0, 200.0]]))
    levels = ops.Levels([(1, 4)], [1])
    found = ops.dense_postprocess(
        *moved(arguments, device), levels, ops.delta_code(), iou_threshold=0.5, max_output=5, score_threshold=0.31
    )
    # prior 1 loses class 0 to prior 0 and keeps class 1
    assert found.count.tolist() == [3]
    assert found.scores[0].tolist() == pytest.approx([0.9, 0.7, 0.6, 0, 0])
    assert found.labels[0].tolist() == [0, 1, 0, 0, 0]
    assert found.boxes[0].tolist() == [[0, 0, 10, 10], [0, 0, 10, 9], [190, 90, 200, 100], [0] * 4, [0] * 4]


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("rivals", ["class", "level", "all"])
def test_it_equals_the_reference(kind: str, rivals: str, device: str) -> None:
    arguments = case(kind, 1)
    options: dict[str, Any] = {"iou_threshold": 0.4, "max_output": 40, "rivals": rivals}
    for extra in (
        {},
        {"limit": 9, "score_threshold": 0.3, "min_size": 3.0},
        {"limit": 30, "min_size": 0.0},
        {"best_class": True},
        {"best_class": True, "limit": 6, "score_threshold": 0.3},
    ):
        expected = reference.dense_postprocess(*arguments, **options, **extra)
        assert_equal(ops.dense_postprocess(*moved(arguments, device), **options, **extra), expected)


def test_scores_are_multiplied_by_quality_after_the_choice(device: str) -> None:
    arguments = case("distance", 2)
    quality = torch.randn(arguments[0].shape[:2], generator=torch.Generator().manual_seed(3))
    options: dict[str, Any] = {"iou_threshold": 0.6, "max_output": 25, "limit": 12, "score_threshold": 0.2}
    expected = reference.dense_postprocess(*arguments, **options, quality=quality)
    actual = ops.dense_postprocess(*moved(arguments, device), **options, quality=quality.to(device))
    assert_equal(actual, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_read_as_it_is(dtype: torch.dtype, device: str) -> None:
    logits, codes, *rest = case("delta", 4)
    options: dict[str, Any] = {"iou_threshold": 0.4, "max_output": 30, "limit": 10, "score_threshold": 0.1}
    expected = reference.dense_postprocess(logits.to(dtype), codes.to(dtype), *rest, **options)
    arguments = moved((logits.to(dtype), codes.to(dtype), *rest), device)
    assert_equal(ops.dense_postprocess(*arguments, **options), expected)
    mixed = moved((logits.to(dtype), codes.to(dtype).float(), *rest), device)
    assert_equal(ops.dense_postprocess(*mixed, **options), expected)


def test_given_priors_equal_base_anchors(device: str) -> None:
    logits, codes, base, image_sizes, levels, code = moved(case("delta", 5), device)
    options: dict[str, Any] = {"iou_threshold": 0.4, "max_output": 30, "limit": 10}
    expected = ops.dense_postprocess(logits, codes, base, image_sizes, levels, code, **options)
    priors = ops.grid_anchors(base, levels.sizes, levels.strides)
    plain = levels._replace(strides=())
    for laid_out in (priors, priors.expand(2, -1, -1)):
        actual = ops.dense_postprocess(logits, codes, laid_out, image_sizes, plain, code, **options)
        assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))
    own = torch.stack((priors, priors + 3))
    actual = ops.dense_postprocess(logits, codes, own, image_sizes, plain, code, **options)
    shifted = ops.dense_postprocess(logits, codes, priors + 3, image_sizes, plain, code, **options)
    assert torch.equal(actual.boxes[0], expected.boxes[0])
    assert torch.equal(actual.boxes[1], shifted.boxes[1])


def test_equal_scores_go_to_the_earlier_pair(device: str) -> None:
    size = 20_000
    logits = torch.zeros(1, size, 1, device=device)
    logits[0, size // 2 :] = 30.0  # saturated: all scores are 1
    priors = torch.arange(size, device=device, dtype=torch.float32)[:, None] * 20 + torch.tensor(
        [0.0, 0, 10, 10], device=device
    )
    codes, image = torch.zeros(1, size, 4, device=device), torch.tensor([[1e9, 1e9]], device=device)
    found = ops.dense_postprocess(
        logits + torch.arange(size, device=device)[:, None] * 1e-4 * (logits > 0),
        codes,
        priors,
        image,
        ops.Levels([(1, size)], [1]),
        ops.delta_code(),
        iou_threshold=0.5,
        max_output=50,
        limit=300,
    )
    assert (found.boxes[0, :, 0] / 20).tolist() == [float(size // 2 + i) for i in range(50)]


@pytest.mark.parametrize("count", [50_000, 20_011])
def test_long_levels_equal_a_sort(count: int, device: str) -> None:
    generator = torch.Generator().manual_seed(6)
    logits = torch.randn(1, count, 1, generator=generator).to(device)
    corner = torch.arange(count, dtype=torch.float32)[:, None] * torch.tensor([20.0, 0])
    priors = torch.cat((corner, corner + 10), dim=1).to(device)
    found = ops.dense_postprocess(
        logits,
        torch.zeros(1, count, 4, device=device),
        priors,
        torch.tensor([[1e9, 1e9]], device=device),
        ops.Levels([(1, count)], [1]),
        ops.delta_code(),
        iou_threshold=0.5,
        max_output=1000,
        limit=1000,
    )
    order = logits[0, :, 0].sort(descending=True, stable=True).indices[:1000]
    assert torch.equal((found.boxes[0, :, 0] / 20).round().long().sort().values, order.sort().values)
    assert (found.scores[0].diff() <= 0).all()


def test_nan_and_infinite_numbers(device: str) -> None:
    arguments = case("delta", 7)
    logits, codes = arguments[0].clone(), arguments[1].clone()
    logits[0, ::5] = math.nan
    logits[0, 1::5] = math.inf
    logits[1, ::4] = -math.inf
    codes[0, 2::7, 1] = math.nan
    codes[1, ::3, 2] = math.inf
    options: dict[str, Any] = {"iou_threshold": 0.4, "max_output": 60, "limit": 20}
    changed = (logits, codes, *arguments[2:])
    expected = reference.dense_postprocess(*changed, **options)
    assert_equal(ops.dense_postprocess(*moved(changed, device), **options), expected)
    only = ops.dense_postprocess(torch.full_like(logits, math.nan).to(device), *moved(changed, device)[1:], **options)
    assert only.count.tolist() == [0, 0]


def test_nothing_gives_empty_slots(device: str) -> None:
    logits, codes, base, image_sizes, levels, code = moved(case("delta", 8), device)
    options: dict[str, Any] = {"iou_threshold": 0.5, "limit": 5}
    above = ops.dense_postprocess(
        logits, codes, base, image_sizes, levels, code, **options, max_output=4, score_threshold=0.99
    )
    assert above.count.tolist() == [0, 0]
    assert above.boxes.abs().sum() == 0
    slots = ops.dense_postprocess(logits, codes, base, image_sizes, levels, code, **options, max_output=0)
    assert slots.boxes.shape == (2, 0, 4)
    images = ops.dense_postprocess(logits[:0], codes[:0], base, image_sizes[:0], levels, code, **options, max_output=4)
    assert images.boxes.shape == (0, 4, 4)
    empty = ops.Levels([(0, 3), (1, 1)], [1, 1], STRIDES[:2])
    one = ops.dense_postprocess(
        logits[:, :1], codes[:, :1], base[:2, :1], image_sizes, empty, code, **options, max_output=4
    )
    assert one.count.tolist() == [int(n) for n in one.count]
    none = ops.dense_postprocess(
        logits[:, :0],
        codes[:, :0],
        base[:1],
        image_sizes,
        ops.Levels([(0, 0)], [2], STRIDES[:1]),
        code,
        **options,
        max_output=4,
    )
    assert none.count.tolist() == [0, 0]


def test_tensors_that_are_not_contiguous(device: str) -> None:
    logits, codes, base, image_sizes, levels, code = moved(case("delta", 9), device)
    options: dict[str, Any] = {"iou_threshold": 0.5, "limit": 5, "max_output": 9}
    expected = ops.dense_postprocess(logits, codes, base, image_sizes, levels, code, **options)
    strided = logits.transpose(1, 2).contiguous().transpose(1, 2), codes.repeat(1, 1, 2)[..., :4]
    actual = ops.dense_postprocess(*strided, base, image_sizes, levels, code, **options)
    assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-30, 30), min_size=12, max_size=12),
    st.integers(-1, 13),
    st.sampled_from(("class", "level", "all")),
)
def test_any_lattice_equals_the_reference(numbers: list[int], limit: int, rivals: str) -> None:
    logits = torch.tensor(numbers, dtype=torch.float32).view(1, 6, 2)
    priors = random_boxes(6, 0, 20.0, 20.0)
    levels = ops.Levels([(2, 2), (1, 2)], [1, 1])
    arguments = (logits, torch.zeros(1, 6, 4), priors, torch.tensor([[30.0, 30]]), levels, ops.delta_code(clips=False))
    options: dict[str, Any] = {"iou_threshold": 0.2, "limit": limit, "max_output": 5, "rivals": rivals}
    assert_equal(ops.dense_postprocess(*arguments, **options), reference.dense_postprocess(*arguments, **options))


def test_proposals_are_thinned_within_their_level(device: str) -> None:
    logits, deltas, base, image_sizes, levels, _ = moved(case("delta", 10, classes=1), device)
    boxes, scores, count = ops.rpn_proposals(
        logits[..., 0],
        deltas,
        base,
        image_sizes,
        SIZES,
        STRIDES,
        iou_threshold=0.3,
        max_output=30,
        limit=20,
        min_size=0,
    )
    expected = reference.dense_postprocess(
        *(value.cpu() if isinstance(value, Tensor) else value for value in (logits, deltas, base, image_sizes, levels)),
        ops.delta_code(),
        iou_threshold=0.3,
        max_output=30,
        limit=20,
        min_size=0,
        rivals="level",
    )
    assert_equal((boxes, scores, torch.zeros_like(scores, dtype=torch.int64), count), expected)


def test_errors_name_the_argument() -> None:
    logits, codes, base, image_sizes, levels, code = case("delta", 0)
    options: dict[str, Any] = {"iou_threshold": 0.5, "max_output": 3}
    with pytest.raises(ValueError, match=r"`codes` must have shape \[2, 96, \*\], got \[2, 95, 4\]"):
        ops.dense_postprocess(logits, codes[:, 1:], base, image_sizes, levels, code, **options)
    with pytest.raises(ValueError, match="`logits` must have dtype"):
        ops.dense_postprocess(logits.double(), codes, base, image_sizes, levels, code, **options)
    with pytest.raises(ValueError, match="`rivals` must be one of"):
        ops.dense_postprocess(logits, codes, base, image_sizes, levels, code, **options, rivals="none")
    with pytest.raises(ValueError, match="as many sizes"):
        ops.dense_postprocess(logits, codes, base, image_sizes, levels._replace(cell_priors=[1]), code, **options)
    with pytest.raises(RuntimeError, match="the levels hold 48 priors, but `logits` has 96"):
        ops.dense_postprocess(
            logits, codes, base[:, :1], image_sizes, levels._replace(cell_priors=[1, 1, 1]), code, **options
        )
    with pytest.raises(RuntimeError, match="`codes` must hold 4 numbers a prior, got 5"):
        ops.dense_postprocess(logits, codes.repeat(1, 1, 2)[..., :5], base, image_sizes, levels, code, **options)
    with pytest.raises(ValueError, match="`means` needs four numbers"):
        ops.delta_code((0.0,))
