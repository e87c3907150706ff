"""roi_pool and the maximum of roi_align: values, gradients, layouts, torchvision's results."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fastdet.ops import reference, roi_align, roi_pool
from tests.ops.samples import SCALES, pyramid, random_rois

LEVELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 2])


def pooled(mode: str, features: list[Tensor], rois: Tensor, levels: Tensor, device: str = "cpu") -> Tensor:
    rois, levels = rois.to(device), levels.to(device)
    if mode == "samples":
        return roi_align(features, rois, (3, 4), SCALES, 2, levels=levels, pool_mode="max")
    if mode == "adaptive":
        return roi_align(features, rois, (3, 4), SCALES, 0, False, levels=levels, pool_mode="max")
    return roi_pool(features, rois, (3, 4), SCALES, rounded=mode == "rounded", levels=levels)


def expected(mode: str, features: list[Tensor], rois: Tensor, levels: Tensor) -> Tensor:
    if mode in ("samples", "adaptive"):
        ratio, aligned = (2, True) if mode == "samples" else (0, False)
        return reference.roi_align(features, rois, (3, 4), SCALES, ratio, aligned, levels=levels, pool_mode="max")
    return reference.roi_pool(features, rois, (3, 4), SCALES, rounded=mode == "rounded", levels=levels)


MODES = ("samples", "adaptive", "rounded", "exact")


def test_the_largest_cell_of_each_bin_is_taken(device: str) -> None:
    feature = torch.arange(16.0, device=device).view(1, 1, 4, 4)
    rois = torch.tensor([[0.0, 0, 0, 3, 3]], device=device)
    assert roi_pool([feature], rois, 2, [1.0]).flatten().tolist() == [5, 7, 13, 15]
    # Not rounded, the RoI ends at 4: the same cells.
    assert roi_pool([feature], rois, 2, [1.0], rounded=False).flatten().tolist() == [5, 7, 13, 15]
    # Samples of an aligned RoI [0, 4]: the cells' middles lie at 0.5, 1.5, ... minus half a cell.
    rois = torch.tensor([[0.0, 0, 0, 4, 4]], device=device)
    assert roi_align([feature], rois, 2, [1.0], 2, pool_mode="max").flatten().tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [1, 5, 19, 40])
def test_equals_the_reference(device: str, mode: str, channels: int, channels_last: bool) -> None:
    features = pyramid(channels, 1, torch.float64, channels_last)
    rois = random_rois(9, 2, 2, dtype=torch.float64)
    leaves = [feature.clone().requires_grad_() for feature in features]
    wanted = expected(mode, leaves, rois, LEVELS)
    own = [feature.to(device).requires_grad_() for feature in features]
    found = pooled(mode, own, rois, LEVELS, device)
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-12, atol=1e-12)
    slope = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradients = torch.autograd.grad(wanted, leaves, slope)
    for a, b in zip(torch.autograd.grad(found, own, slope.to(device)), gradients, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-11, atol=1e-12)
    assert found.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_half_features_are_rounded_once(device: str, mode: str, dtype: torch.dtype, channels_last: bool) -> None:
    features = pyramid(21, 4, dtype, channels_last)
    rois = random_rois(9, 2, 5)
    wide = pooled(mode, [feature.float() for feature in features], rois, LEVELS)
    found = pooled(mode, [feature.to(device) for feature in features], rois, LEVELS, device)
    assert found.dtype == dtype
    torch.testing.assert_close(found.cpu(), wide.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(mode: str) -> None:
    generator = torch.Generator().manual_seed(6)
    # Values that differ by far more than the step of the differences: the choice must not change.
    features = [torch.randperm(72, generator=generator).double().view(2, 1, 6, 6).requires_grad_() for _ in range(3)]
    rois = random_rois(4, 2, 7, 40.0, torch.float64)
    torch.autograd.gradcheck(lambda *f: pooled(mode, list(f), rois, LEVELS[:4]), features)


def test_levels_are_chosen_by_size_as_roi_align_does(device: str) -> None:
    features = [feature.to(device) for feature in pyramid(4, 8)]
    rois = random_rois(30, 2, 9).to(device)
    chosen = torch.log2(((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt() / 40 + 1e-6).floor().clamp(0, 2)
    given = roi_pool(features, rois, 2, SCALES, levels=chosen.long())
    assert torch.equal(roi_pool(features, rois, 2, SCALES, finest_scale=40.0), given)


@pytest.mark.parametrize("scale", [1.0, 0.25, 0.3])
def test_roi_pool_equals_torchvision(scale: float) -> None:
    torchvision_ops = pytest.importorskip("torchvision.ops")
    feature = torch.randn(2, 6, 21, 27, generator=torch.Generator().manual_seed(10), requires_grad=True)
    rois = random_rois(40, 2, 11, 60.0 / scale / 2)
    peer = torchvision_ops.roi_pool(feature, rois, (4, 5), scale)
    ours = roi_pool([feature], rois, (4, 5), [scale])
    assert torch.equal(ours, peer)
    slope = torch.randn(ours.shape, generator=torch.Generator().manual_seed(12))
    torch.testing.assert_close(
        torch.autograd.grad(ours, feature, slope)[0], torch.autograd.grad(peer, feature, slope)[0], rtol=1e-5, atol=1e-5
    )


def test_samples_outside_of_the_map_are_zero_and_take_part(device: str) -> None:
    feature = torch.full((1, 1, 3, 3), -5.0, device=device)
    inside, outside = [0.0, 0.5, 0.5, 2, 2], [0.0, -9, -9, 12, 12]
    found = roi_align([feature], torch.tensor([inside, outside], device=device), 1, [1.0], 4, pool_mode="max")
    assert found.flatten().tolist() == [-5, 0]


def test_rois_without_cells_or_not_finite_give_zeros(device: str) -> None:
    feature = torch.ones(1, 2, 5, 5, device=device, requires_grad=True)
    nan, inf = math.nan, math.inf
    rois = [[0.0, 50, 50, 60, 60], [0, -60, -60, -50, -50], [0, nan, 0, 4, 4], [0, 0, 0, inf, 4], [0, 3, 3, 1, 1]]
    table = torch.tensor(rois, device=device)
    for rounded in (True, False):
        found = roi_pool([feature], table, 2, [1.0], rounded=rounded)
        assert found[:4].abs().sum() == 0
        assert found.isfinite().all()
        assert torch.autograd.grad(found[:4].sum(), feature)[0].abs().sum() == 0
    assert roi_pool([feature], table[4:], 1, [1.0]).flatten().tolist() == [1, 1]  # inverted: one cell, as in the peer


def test_ties_and_nan_take_the_first(device: str) -> None:
    feature = torch.zeros(1, 1, 2, 2, device=device, requires_grad=True)
    rois = torch.tensor([[0.0, 0, 0, 1, 1]], device=device)
    gradient = torch.autograd.grad(roi_pool([feature], rois, 1, [1.0]).sum(), feature)[0]
    assert gradient.flatten().tolist() == [1, 0, 0, 0]
    spoiled = torch.tensor([[[[math.nan, 1.0], [2.0, 3.0]]]], device=device)
    assert roi_pool([spoiled], rois, 1, [1.0]).isnan().all()


@pytest.mark.parametrize("mode", MODES)
def test_strided_features_are_read_as_they_lie(device: str, mode: str) -> None:
    features, rois = [feature.to(device) for feature in pyramid(5, 15)], random_rois(9, 2, 16)
    every_other = [feature.repeat_interleave(2, 3)[..., ::2] for feature in features]
    transposed = [feature.transpose(2, 3).contiguous().transpose(2, 3) for feature in features]
    wanted = pooled(mode, features, rois, LEVELS, device)
    for strided in (every_other, transposed):
        assert not strided[0].is_contiguous()
        torch.testing.assert_close(pooled(mode, strided, rois, LEVELS, device), wanted)


def test_more_cells_than_a_tile_holds(device: str) -> None:
    feature = torch.randn(1, 19, 90, 70, generator=torch.Generator().manual_seed(17)).to(device)
    rois = torch.tensor([[0.0, -3, -5, 200, 300], [0, 10, 20, 69, 89]], device=device)
    found = roi_pool([feature], rois, (3, 2), [1.0])
    last = roi_pool([feature.contiguous(memory_format=torch.channels_last)], rois, (3, 2), [1.0])
    levels = torch.zeros(2, dtype=torch.int64)
    expected = reference.roi_pool([feature.cpu()], rois.cpu(), (3, 2), [1.0], levels=levels)
    assert torch.equal(found.cpu(), expected)
    assert torch.equal(last.cpu(), expected)


def test_no_rois_and_a_bad_batch_index() -> None:
    features = [feature.requires_grad_() for feature in pyramid(3, 13)]
    found = roi_pool(features, torch.zeros(0, 5), 2, SCALES)
    assert found.shape == (0, 3, 2, 2)
    for gradient, feature in zip(torch.autograd.grad(found.sum(), features), features, strict=True):
        assert torch.equal(gradient, torch.zeros_like(feature))
    with pytest.raises(RuntimeError, match="`rois` row 0 has a batch index or level"):
        roi_pool(features, torch.tensor([[2.0, 0, 0, 4, 4]]), 2, SCALES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool_mode": "sum"}, r"`pool_mode` must be 'avg' or 'max', got 'sum'"),
        ({"output_size": 0, "pool_mode": "max"}, r"`output_size` must be positive, got 0"),
    ],
)
def test_errors_name_the_argument(options: dict[str, Any], message: str) -> None:
    arguments = {"output_size": 2, "spatial_scales": SCALES} | options
    with pytest.raises(ValueError, match=message):
        roi_align(pyramid(2, 14), torch.zeros(1, 5), **arguments)
