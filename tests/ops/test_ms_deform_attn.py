"""Multi-scale deformable attention."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.peers import attention_by_grid_sample
from fastdet.ops import ms_deform_attn, reference

SHAPES = ((6, 4), (3, 2))
Arguments = tuple[Tensor, tuple[tuple[int, int], ...], Tensor, Tensor]


def arguments(
    channels: int = 5,
    dtype: torch.dtype = torch.float64,
    batch: int = 2,
    queries: int = 3,
    heads: int = 2,
    points: int = 2,
    shapes: tuple[tuple[int, int], ...] = SHAPES,
    seed: int = 3,
) -> Arguments:
    """Locations from -0.3 to 1.3, so that some lie beside the map and some outside of it."""
    generator = torch.Generator().manual_seed(seed)
    coordinate = torch.float64 if dtype == torch.float64 else torch.float32
    cells = sum(height * width for height, width in shapes)
    value = torch.randn(batch, cells, heads, channels, generator=generator, dtype=torch.float64)
    locations = torch.rand(batch, queries, heads, len(shapes), points, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(batch, queries, heads, len(shapes), points, generator=generator, dtype=torch.float64)
    weights = weights / weights.sum((-1, -2), keepdim=True)
    return value.to(dtype), shapes, (1.6 * locations - 0.3).to(coordinate), weights.to(coordinate)


def moved(given_: Arguments, device: str, dtype: torch.dtype | None = None) -> Arguments:
    value, shapes, locations, weights = given_
    return value.to(device, dtype), shapes, locations.to(device), weights.to(device)


def with_gradients(given_: Arguments) -> tuple[Arguments, list[Tensor]]:
    value, shapes, locations, weights = given_
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (value, locations, weights)]
    return (leaves[0], shapes, leaves[1], leaves[2]), leaves


def test_known_values(device: str) -> None:
    # One level of 2 x 2 cells 1 2 / 3 4: the centre is the mean; a cell's centre is the cell; the left edge is half of
    # the left cells.
    value = torch.tensor([1.0, 2, 3, 4], device=device).view(1, 4, 1, 1)
    locations = torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.0, 0.5], [-0.25, 0.5]], device=device).view(1, 4, 1, 1, 1, 2)
    output = ms_deform_attn(value, [(2, 2)], locations, torch.ones(1, 4, 1, 1, 1, device=device))
    assert output.flatten().tolist() == [2.5, 2.0, 1.0, 0.0]


@pytest.mark.parametrize("channels", [1, 4, 16, 30, 71])
def test_equals_the_reference_with_gradients(device: str, channels: int) -> None:
    expected_inputs, expected_leaves = with_gradients(arguments(channels))
    actual_inputs, actual_leaves = with_gradients(moved(arguments(channels), device))
    expected, actual = reference.ms_deform_attn(*expected_inputs), ms_deform_attn(*actual_inputs)
    torch.testing.assert_close(actual.cpu(), expected)
    slope = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    expected.backward(slope)
    actual.backward(slope.to(device))
    for name, a, b in zip(("value", "locations", "weights"), actual_leaves, expected_leaves, strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad, msg=name)


@settings(max_examples=30, deadline=None)
@given(
    channels=st.integers(1, 70),
    batch=st.integers(1, 3),
    queries=st.integers(1, 7),
    heads=st.integers(1, 3),
    points=st.integers(1, 5),
    shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_equals_grid_sample_for_any_sizes(
    channels: int,
    batch: int,
    queries: int,
    heads: int,
    points: int,
    shapes: list[tuple[int, int]],
    seed: int,
) -> None:
    inputs = arguments(channels, torch.float64, batch, queries, heads, points, tuple(shapes), seed)
    ours, our_leaves = with_gradients(inputs)
    theirs, their_leaves = with_gradients(inputs)
    actual, expected = ms_deform_attn(*ours), attention_by_grid_sample(*theirs)
    torch.testing.assert_close(actual, expected)
    actual.square().sum().backward()
    expected.square().sum().backward()
    for a, b in zip(our_leaves, their_leaves, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("channels", [4, 30, 32, 64, 71, 1025])
def test_gradcheck(device: str, channels: int) -> None:
    inputs, leaves = with_gradients(moved(arguments(channels, batch=1, queries=2), device))
    value, locations, weights = leaves
    assert torch.autograd.gradcheck(
        lambda v, at, w: ms_deform_attn(v, inputs[1], at, w),
        (value, locations, weights),
        fast_mode=channels > 4,
        nondet_tol=1e-5 if device == "cuda" else 0.0,
    )


def test_float32_is_near_float64(device: str) -> None:
    value, shapes, locations, weights = arguments(32, torch.float32, queries=11, points=4)
    expected = ms_deform_attn(value.double(), shapes, locations.double(), weights.double())
    actual = ms_deform_attn(*moved((value, shapes, locations, weights), device))
    torch.testing.assert_close(actual.cpu().double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_errs_by_the_rounding_of_the_result_alone(device: str, dtype: torch.dtype) -> None:
    value, shapes, locations, weights = arguments(37, dtype, points=4)
    wide = with_gradients((value.double(), shapes, locations.double(), weights.double()))
    low = with_gradients(moved((value, shapes, locations, weights), device))
    expected, actual = ms_deform_attn(*wide[0]), ms_deform_attn(*low[0])
    assert actual.dtype == dtype
    bound = expected.abs() * torch.finfo(dtype).eps / 2 + 1e-4
    assert bool(((actual.cpu().double() - expected).abs() <= bound).all())
    expected.sum().backward()
    actual.sum().backward()
    for a, b in zip(low[1], wide[1], strict=True):
        assert a.grad.dtype == a.dtype
        assert (
            float((a.grad.cpu().double() - b.grad).abs().max() / b.grad.abs().max()) <= torch.finfo(a.dtype).eps + 1e-5
        )


@pytest.mark.parametrize(("batch", "queries"), [(3, 7), (2, 13), (4, 1), (3, 97)])
def test_every_query_reads_its_own_image(device: str, batch: int, queries: int) -> None:
    # Batches that no block size divides: a kernel that splits the queries of all images into equal blocks and asks for
    # the image once a block reads a neighbour's.
    value, shapes, locations, weights = moved(arguments(8, torch.float32, batch, queries), device)
    value = torch.arange(batch, device=device).view(-1, 1, 1, 1).expand_as(value).float()
    output = ms_deform_attn(value, shapes, 0.4 + 0.2 * locations, weights)  # all inside
    expected = torch.arange(batch, device=device).view(-1, 1, 1).expand_as(output).float()
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize(
    ("batch", "queries", "heads", "points", "channels"),
    [(0, 3, 2, 2, 4), (2, 0, 2, 2, 4), (1, 3, 2, 0, 4), (1, 3, 0, 2, 4), (2, 3, 2, 2, 0)],
)
def test_empty_inputs(device: str, batch: int, queries: int, heads: int, points: int, channels: int) -> None:
    given_ = moved(arguments(channels, torch.float32, batch, queries, heads, max(points, 1)), device)
    inputs, leaves = with_gradients((*given_[:2], given_[2][..., :points, :], given_[3][..., :points]))
    output = ms_deform_attn(*inputs)
    assert output.shape == (batch, queries, heads * channels)
    assert not output.any()
    output.sum().backward()
    assert all(not leaf.grad.any() for leaf in leaves)


def test_locations_that_are_not_numbers_or_far_away_count_nothing(device: str) -> None:
    value, shapes, locations, weights = moved(arguments(20, torch.float32), device)
    value[:, 0] = math.nan  # must not leak from the first cell either
    for number in (math.nan, math.inf, -math.inf, 1e30, -1e30, 5.0):
        leaves = [t.clone().requires_grad_() for t in (value, torch.full_like(locations, number), weights)]
        output = ms_deform_attn(leaves[0], shapes, *leaves[1:])
        assert not output.any()
        assert all(not gradient.any() for gradient in torch.autograd.grad(output.sum(), leaves))


def test_one_cell(device: str) -> None:
    value = torch.full((1, 1, 1, 3), 2.0, device=device)
    locations = torch.tensor([[0.5, 0.5], [0.0, 0.5], [1.0, 1.0]], device=device).view(1, 1, 1, 1, 3, 2)
    weights = torch.tensor([1.0, 10.0, 100.0], device=device).view(1, 1, 1, 1, 3)
    # The centre is the cell, the middle of an edge half of it, a corner a quarter.
    assert ms_deform_attn(value, [(1, 1)], locations, weights).tolist() == [[[2 + 10 + 50] * 3]]


def test_non_contiguous_arguments(device: str) -> None:
    value, shapes, locations, weights = moved(arguments(), device)
    strided = [torch.stack([tensor, tensor], dim=-1)[..., 0] for tensor in (value, locations, weights)]
    actual = ms_deform_attn(strided[0], shapes, strided[1], strided[2])
    assert torch.equal(actual, ms_deform_attn(value, shapes, locations, weights))


def test_large_maps_beside_small_ones(device: str) -> None:
    inputs = arguments(32, torch.float32, 1, 200, 8, 4, ((100, 167), (50, 84), (25, 42), (13, 21)))
    expected = attention_by_grid_sample(*inputs)
    torch.testing.assert_close(ms_deform_attn(*moved(inputs, device)).cpu(), expected, rtol=1e-4, atol=1e-4)


def test_autocast_keeps_locations_in_float32() -> None:
    value, shapes, locations, weights = arguments(16, torch.bfloat16)
    expected = ms_deform_attn(value, shapes, locations, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = ms_deform_attn(value, shapes, locations, weights)
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, expected)


@pytest.mark.cuda
def test_runs_without_a_host_sync_and_in_a_graph(cuda: str) -> None:
    inputs = moved(arguments(32, torch.float32, queries=50), cuda)
    expected = ms_deform_attn(*inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ms_deform_attn(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = ms_deform_attn(*inputs)
    graph.replay()
    assert torch.equal(output, expected)


@pytest.mark.cuda
def test_the_gpu_says_that_its_gradient_is_not_deterministic(cuda: str) -> None:
    inputs, _ = with_gradients(moved(arguments(), cuda))
    output = ms_deform_attn(*inputs).sum()
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="ms_deform_attn_backward does not have a deterministic implementation"):
            output.backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_errors_name_the_argument() -> None:
    value, shapes, locations, weights = arguments()
    with pytest.raises(ValueError, match=r"`value` must have the 30 cells of `spatial_shapes`, got 29"):
        ms_deform_attn(value[:, 1:], shapes, locations, weights)
    with pytest.raises(ValueError, match=r"`sampling_locations` must have shape \[2, \*, 2, 2, \*, 2\]"):
        ms_deform_attn(value, shapes, locations[..., :1], weights)
    with pytest.raises(
        ValueError, match=r"`attention_weights` must have shape \[2, 3, 2, 2, 2\], got \[2, 3, 2, 2, 1\]"
    ):
        ms_deform_attn(value, shapes, locations, weights[..., :1])
    with pytest.raises(ValueError, match="`value` must have dtype"):
        ms_deform_attn(value.long(), shapes, locations, weights)
    with pytest.raises(RuntimeError, match="`sizes` must hold a height and a width for each of 1 to 16 levels, got 3"):
        torch.ops.fastdet.ms_deform_attn(value, [6, 4, 3], locations, weights)
    with pytest.raises(RuntimeError, match=r"`sizes` must lie in \[1, 2\^24\), got -6 x -4"):
        torch.ops.fastdet.ms_deform_attn(value, [-6, -4, 3, 2], locations, weights)
    with pytest.raises(RuntimeError, match="`weights` must have dtype Double"):
        torch.ops.fastdet.ms_deform_attn(value, [6, 4, 3, 2], locations, weights.float())
