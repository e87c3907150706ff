"""roi_align: values, levels, layouts, precision and gradients."""

import math

import pytest
import torch

from fastdet.ops import reference, roi_align
from tests.ops.samples import SCALES, pyramid, random_rois

LAYOUTS = [False, True]


def test_known_values(device: str) -> None:
    # Numbers of MMCV's test suite.
    feature = torch.tensor([[1.0, 2], [3, 4]], device=device)[None, None].requires_grad_()
    pooled = roi_align([feature], torch.tensor([[0.0, 0, 0, 1, 1]], device=device), 2, [1.0], sampling_ratio=2)
    assert pooled[0, 0].tolist() == [[1.0, 1.25], [1.5, 1.75]]
    pooled.sum().backward()
    assert feature.grad[0, 0].tolist() == [[3.0625, 0.4375], [0.4375, 0.0625]]


def test_known_values_of_a_larger_map(device: str) -> None:
    rows = [[1.0, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]]
    feature = torch.tensor(rows, device=device)[None, None]
    roi = torch.tensor([[0.0, 0, 0, 3, 3]], device=device)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        pooled = roi_align([feature.to(dtype)], roi, 2, [1.0], sampling_ratio=2)
        assert pooled.dtype == dtype
        assert pooled[0, 0].tolist() == [[1.9375, 4.75], [7.5625, 10.375]]


def test_alignment_shifts_by_half_a_cell(device: str) -> None:
    # Numbers of Detectron2's test suite.
    feature = torch.arange(25.0, device=device).view(1, 1, 5, 5)
    roi = torch.tensor([[0.0, 1, 1, 3, 3]], device=device)
    shifted = roi_align([feature], roi, 4, [1.0])[0, 0]
    assert shifted[0].tolist() == [4.5, 5.0, 5.5, 6.0]
    assert shifted[3, 3] == 13.5
    old = roi_align([feature], roi, 4, [1.0], aligned=False)[0, 0]
    assert old[0].tolist() == [7.5, 8.0, 8.5, 9.0]
    assert old[3, 3] == 16.5


@pytest.mark.parametrize("channels_last", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 16, 70])
@pytest.mark.parametrize(("sampling_ratio", "aligned"), [(0, True), (2, True), (3, False), (0, False)])
def test_equals_the_reference(
    device: str, channels_last: bool, channels: int, sampling_ratio: int, aligned: bool
) -> None:
    features, rois = pyramid(channels, 1, torch.float64, channels_last), random_rois(12, 2, 2, dtype=torch.float64)
    expected = reference.roi_align(features, rois, (3, 5), SCALES, sampling_ratio, aligned, 40.0)
    moved = [feature.to(device) for feature in features]
    actual = roi_align(moved, rois.to(device), (3, 5), SCALES, sampling_ratio, aligned, 40.0)
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-12, atol=1e-12)
    last = channels_last and channels > 1
    assert actual.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@pytest.mark.parametrize("channels_last", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_error_is_bounded_by_the_rounding_of_the_result(device: str, channels_last: bool, dtype: torch.dtype) -> None:
    features, rois = pyramid(37, 3, dtype, channels_last), random_rois(20, 2, 4)
    exact = reference.roi_align([f.double() for f in features], rois.double(), 7, SCALES)
    actual = roi_align([f.to(device) for f in features], rois.to(device), 7, SCALES).cpu().double()
    # One rounding of the result, and float32 coordinates: positions below 64 cells err by 4e-6 cells or less, which
    # moves a value by that share of a neighbour difference (below 8 here).
    bound = torch.finfo(dtype).eps / 2 * exact.abs() + 8 * 4e-6 + torch.finfo(dtype).smallest_normal
    assert ((actual - exact).abs() <= bound).all()


@pytest.mark.parametrize("channels_last", LAYOUTS)
def test_agrees_with_torchvision_per_level(channels_last: bool) -> None:
    torchvision_ops = pytest.importorskip("torchvision.ops")
    features, rois = pyramid(8, 5, channels_last=channels_last), random_rois(30, 2, 6)
    levels = torch.arange(30) % 3
    pooled = roi_align(features, rois, 7, SCALES, 2, levels=levels)
    for level in range(3):
        peer = torchvision_ops.roi_align(features[level], rois[levels == level], 7, SCALES[level], 2, True)
        torch.testing.assert_close(pooled[levels == level], peer, rtol=1e-5, atol=1e-5)


def test_levels_follow_the_size_of_the_box(device: str) -> None:
    # Every level holds its own number, so a pooled value names the level that was read.
    features = [torch.full((1, 1, 64 >> level, 64 >> level), float(level), device=device) for level in range(3)]
    sides = [1.0, 111.9, 112.1, 223.9, 224.1, 2000.0]
    rois = torch.tensor([[0.0, 20, 20, 20 + side, 20 + side] for side in sides], device=device)
    pooled = roi_align(features, rois, 1, SCALES, sampling_ratio=1, levels=None)
    # The last box's middle lies outside the map, where samples are 0; its level is checked by another below.
    assert pooled.flatten().tolist()[:5] == [0.0, 0.0, 1.0, 1.0, 2.0]
    wide = torch.tensor([[0.0, 0, 100, 4000, 104]], device=device)  # sqrt(4000 * 4) = 126 goes to level 1
    assert reference.pyramid_level(wide[0, 1:].cpu(), 3, 56.0) == 1


def test_degenerate_rois_give_zeros(device: str) -> None:
    features = pyramid(4, 7)
    rois = torch.tensor(
        [
            [0, 10, 10, 10, 10],
            [0, 50, 50, 20, 20],
            [1, -900, -900, -800, -800],
            [1, math.nan, 0, 10, 10],
            [0, 0, 0, math.inf, 10],
            [0, -math.inf, 0, 10, 10],
            [0, 1e30, 1e30, 2e30, 2e30],
        ],
        device=device,
    )
    features = [feature.to(device).requires_grad_() for feature in features]
    pooled = roi_align(features, rois, 7, SCALES)
    assert pooled.abs().sum() == 0
    pooled.sum().backward()
    assert all(feature.grad.abs().sum() == 0 for feature in features)


def test_a_huge_roi_equals_the_reference_and_ends(device: str) -> None:
    features = [torch.randn(1, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(8))]
    rois = torch.tensor([[0.0, -700, -400, 900, 1000]], dtype=torch.float64)
    expected = reference.roi_align(features, rois, 3, [1.0])
    actual = roi_align([features[0].to(device)], rois.to(device), 3, [1.0]).cpu()
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    enormous = torch.tensor([[0.0, -1e9, -1e9, 1e9, 1e9]], dtype=torch.float64, device=device)
    assert torch.isfinite(roi_align([features[0].to(device)], enormous, 3, [1.0])).all()


def test_empty_inputs(device: str) -> None:
    features = [feature.to(device).requires_grad_() for feature in pyramid(4, 9)]
    pooled = roi_align(features, torch.zeros(0, 5, device=device), (2, 3), SCALES)
    assert pooled.shape == (0, 4, 2, 3)
    pooled.sum().backward()
    assert all(feature.grad.abs().sum() == 0 for feature in features)


@pytest.mark.parametrize("channels_last", LAYOUTS)
def test_strided_features_are_read_as_they_lie(device: str, channels_last: bool) -> None:
    whole = [feature.to(device) for feature in pyramid(12, 10, channels_last=channels_last)]
    rois = random_rois(9, 2, 11).to(device)
    views = [feature[:, 3:10, 1:, 2:] for feature in whole]
    expected = roi_align([view.contiguous() for view in views], rois, 5, SCALES)
    torch.testing.assert_close(roi_align(views, rois, 5, SCALES), expected)
    mixed = [whole[0].contiguous(), whole[1].contiguous(memory_format=torch.channels_last), whole[2]]
    expected = roi_align([feature.contiguous() for feature in whole], rois, 5, SCALES)
    torch.testing.assert_close(roi_align(mixed, rois, 5, SCALES), expected)
    flipped = [mixed[1], mixed[0], mixed[2]]
    scales = [SCALES[1], SCALES[0], SCALES[2]]
    expected = roi_align([feature.contiguous() for feature in flipped], rois, 5, scales)
    torch.testing.assert_close(roi_align(flipped, rois, 5, scales), expected)


def test_broadcast_features_and_gradients(device: str) -> None:
    feature = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(23)).to(device).expand(2, 6, 8, 8)
    rois = torch.tensor([[0.0, 0, 0, 6, 6], [1, 1, 1, 7, 5]], device=device)
    pooled = roi_align([feature], rois, 2, [1.0])
    assert torch.equal(pooled[:, :1].expand(-1, 6, -1, -1), pooled)


@pytest.mark.parametrize("channels_last", LAYOUTS)
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_gradcheck(device: str, channels_last: bool, sampling_ratio: int) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    generator = torch.Generator().manual_seed(12)
    features = [
        torch.randn(2, 3, side, side + 1, dtype=torch.float64, generator=generator)
        .to(device)
        .contiguous(memory_format=layout)
        .requires_grad_()
        for side in (6, 3)
    ]
    rois = random_rois(6, 2, 13, extent=24.0, dtype=torch.float64).to(device)

    def pool(*levels: torch.Tensor) -> torch.Tensor:
        return roi_align(levels, rois, (2, 3), SCALES[:2], sampling_ratio, finest_scale=8.0)

    assert torch.autograd.gradcheck(pool, features)
    assert torch.autograd.gradgradcheck(pool, features, fast_mode=True)


@pytest.mark.parametrize("channels_last", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gradient_error_is_bounded_by_its_rounding(device: str, channels_last: bool, dtype: torch.dtype) -> None:
    features, rois = pyramid(5, 14, dtype, channels_last), random_rois(15, 2, 15)
    exact_features = [feature.double().requires_grad_() for feature in features]
    expected = reference.roi_align(exact_features, rois.double(), 4, SCALES)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(16)).to(dtype)
    gradients = torch.autograd.grad(expected, exact_features, weights.double(), materialize_grads=True)
    moved = [feature.to(device).requires_grad_() for feature in features]
    roi_align(moved, rois.to(device), 4, SCALES).backward(weights.to(device))
    for actual, exact in zip(moved, gradients, strict=True):
        # One rounding of each cell's sum; float32 sums and coordinates err by less than 1e-4 of the largest weight.
        bound = torch.finfo(dtype).eps / 2 * exact.abs() + 4 * 1e-4
        assert ((actual.grad.cpu().double() - exact).abs() <= bound).all()
        assert actual.grad.is_contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )


def test_gradient_is_bitwise_repeatable(device: str) -> None:
    rois = random_rois(60, 2, 17).to(device)

    def gradients() -> list[torch.Tensor]:
        features = [feature.to(device).requires_grad_() for feature in pyramid(70, 18, channels_last=True)]
        roi_align(features, rois, 7, SCALES).square().sum().backward()
        return [feature.grad for feature in features]

    torch.use_deterministic_algorithms(True)
    try:
        first, second = gradients(), gradients()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradient_does_not_depend_on_the_number_of_threads() -> None:
    features = [feature.requires_grad_() for feature in pyramid(130, 19, channels_last=True)]
    rois = random_rois(80, 2, 20)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            pooled = roi_align(features, rois, 7, SCALES)
            results.append((pooled.detach(), *torch.autograd.grad(pooled.square().sum(), features)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_an_image_out_of_range_is_an_error_on_the_cpu() -> None:
    feature = torch.zeros(2, 3, 8, 8)
    for image in (-1.0, 2.0, 1e20, math.nan):
        with pytest.raises(RuntimeError, match=r"`rois` row 1 has batch index .*features hold 2 images"):
            roi_align([feature], torch.tensor([[0.0, 0, 0, 4, 4], [image, 0, 0, 4, 4]]), 2, [1.0])
    with pytest.raises(RuntimeError, match="`levels` row 0 is 1, but there are 1 levels"):
        roi_align([feature], torch.tensor([[0.0, 0, 0, 4, 4]]), 2, [1.0], levels=torch.tensor([1]))


@pytest.mark.cuda
def test_an_image_out_of_range_gives_zeros_on_the_gpu(cuda: str) -> None:
    rois = torch.tensor([[5.0, 0, 0, 4, 4], [0, 0, 0, 4, 4]], device=cuda)
    pooled = roi_align([torch.ones(2, 3, 8, 8, device=cuda)], rois, 2, [1.0])
    assert pooled[0].abs().sum() == 0
    assert pooled[1].min() == 1


@pytest.mark.cuda
@pytest.mark.parametrize("channels_last", LAYOUTS)
def test_runs_without_a_host_sync(cuda: str, channels_last: bool) -> None:
    features = [f.to(cuda).requires_grad_() for f in pyramid(16, 21, channels_last=channels_last)]
    rois = random_rois(20, 2, 22).to(cuda)
    torch.cuda.set_sync_debug_mode("error")
    try:
        roi_align(features, rois, 7, SCALES).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_errors_name_the_argument() -> None:
    feature, rois = torch.zeros(1, 2, 4, 4), torch.zeros(1, 5)
    with pytest.raises(ValueError, match=r"`rois` must have shape \[\*, 5\], got \[1, 4\]"):
        roi_align([feature], rois[:, :4], 2, [1.0])
    with pytest.raises(ValueError, match=r"`features\[1\]` must have shape \[1, 2, \*, \*\], got \[1, 3, 4, 4\]"):
        roi_align([feature, torch.zeros(1, 3, 4, 4)], rois, 2, [1.0, 0.5])
    with pytest.raises(ValueError, match=r"`features\[1\]` must have dtype torch.float32, got torch.float16"):
        roi_align([feature, feature.half()], rois, 2, [1.0, 0.5])
    with pytest.raises(ValueError, match="`spatial_scales` must hold 1 scales"):
        roi_align([feature], rois, 2, [1.0, 0.5])
    with pytest.raises(ValueError, match="`output_size` must be positive"):
        roi_align([feature], rois, 0, [1.0])
    with pytest.raises(ValueError, match="at least one level"):
        roi_align([], rois, 2, [])
