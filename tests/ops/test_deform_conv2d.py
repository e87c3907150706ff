"""Deformable convolution, versions 1 and 2."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastdet.ops import deform_conv2d, reference


def arguments(
    dtype: torch.dtype = torch.float64,
    batch: int = 2,
    groups: int = 2,
    offset_groups: int = 3,
    with_mask: bool = True,
    seed: int = 0,
) -> dict[str, object]:
    """Kernel (3, 2), stride (2, 1), padding (1, 0), dilation (2, 1) on 6 channels of 5 x 4 cells."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).to(dtype)

    coordinate = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        "input": normal(batch, 6, 5, 4),
        "offset": normal(batch, offset_groups * 12, 2, 3, scale=1.5).to(coordinate),
        "weight": normal(4, 6 // groups, 3, 2),
        "bias": normal(4),
        "stride": (2, 1),
        "padding": (1, 0),
        "dilation": (2, 1),
        "mask": normal(batch, offset_groups * 6, 2, 3).to(coordinate) if with_mask else None,
    }


def moved(given_: dict[str, object], device: str) -> dict[str, object]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in given_.items()}


def test_zero_offsets_are_the_plain_convolution(device: str) -> None:
    a = arguments(offset_groups=1)
    a["offset"], a["mask"] = torch.zeros_like(a["offset"]), None
    expected = torch.nn.functional.conv2d(a["input"], a["weight"], a["bias"], (2, 1), (1, 0), (2, 1), 2)
    torch.testing.assert_close(deform_conv2d(**moved(a, device)).cpu(), expected)


def test_known_values_of_version_1(device: str) -> None:
    # Numbers of MMCV's test suite: its offsets come from a 2x2 convolution with these weights.
    x = torch.tensor([[[[1.0, 2, 3], [0, 1, 2], [3, 5, 2]]]], device=device, requires_grad=True)
    rows = [
        [1, 4, 6, 1],
        [3, 2, 1, 3],
        [5, 5, 2, 8],
        [8, 3, 9, 1],
        [3, 1, 2, 5],
        [3, 7, 5, 3],
        [6, 2, 5, 3],
        [4, 1, 8, 4],
    ]
    offset_weight = torch.tensor(rows, device=device).reshape(8, 1, 2, 2) / 10
    offset_bias = torch.tensor([0.7, 0.1, 0.8, 0.5, 0.6, 0.5, 0.4, 0.7], device=device)
    offset = torch.nn.functional.conv2d(x, offset_weight, offset_bias)
    weight = torch.tensor([[[[0.4, 0.2], [0.1, 0.9]]]], device=device, requires_grad=True)
    output = deform_conv2d(x, offset, weight)
    expected = torch.tensor([[[[1.650, 0.0], [0.0, 0.0]]]], device=device)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-3)
    output.sum().backward()
    of_weight = torch.tensor([[[[3.62, 0.0], [0.40, 0.18]]]], device=device)
    torch.testing.assert_close(weight.grad, of_weight, rtol=0, atol=1e-3)
    of_input = torch.tensor([[[[-0.666, 0.204, 0.0], [0.030, -0.416, 0.012], [0.0, 0.252, 0.129]]]], device=device)
    torch.testing.assert_close(x.grad, of_input, rtol=0, atol=1e-3)


def test_known_values_of_version_2(device: str) -> None:
    x = torch.tensor([1.0, 2, 3], device=device).expand(1, 1, 3, 3).clone().requires_grad_()
    weight = torch.ones(1, 1, 2, 2, device=device, requires_grad=True)
    offset = torch.zeros(1, 8, 4, 4, device=device, requires_grad=True)
    mask = torch.full((1, 4, 4, 4), 0.5, device=device)
    output = deform_conv2d(x, offset, weight, padding=1, mask=mask)
    rows = [[0.5, 1.5, 2.5, 1.5], [1, 3, 5, 3], [1, 3, 5, 3], [0.5, 1.5, 2.5, 1.5]]
    assert output[0, 0].tolist() == rows
    output.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2.0))
    assert weight.grad.flatten().tolist() == [9.0] * 4


@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize(("groups", "offset_groups"), [(1, 1), (2, 3), (1, 6), (2, 1)])
def test_equals_the_reference_with_gradients(device: str, groups: int, offset_groups: int, with_mask: bool) -> None:
    a = arguments(groups=groups, offset_groups=offset_groups, with_mask=with_mask)
    names = [name for name, value in a.items() if isinstance(value, Tensor)]
    expected_inputs = {**a, **{name: a[name].clone().requires_grad_() for name in names}}
    actual_inputs = {**a, **{name: a[name].to(device).requires_grad_() for name in names}}
    expected, actual = reference.deform_conv2d(**expected_inputs), deform_conv2d(**actual_inputs)
    torch.testing.assert_close(actual.cpu(), expected)
    slope = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    expected.backward(slope)
    actual.backward(slope.to(device))
    for name in names:
        torch.testing.assert_close(actual_inputs[name].grad.cpu(), expected_inputs[name].grad, msg=name)


def test_gradcheck(device: str) -> None:
    a = moved(arguments(), device)
    names = ["input", "offset", "weight", "bias", "mask"]

    def function(*tensors: Tensor) -> Tensor:
        return deform_conv2d(**{**a, **dict(zip(names, tensors, strict=True))})

    tensors = [a[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(function, tensors, fast_mode=True, nondet_tol=1e-5 if device == "cuda" else 0.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_errs_by_the_rounding_of_the_result_alone(device: str, dtype: torch.dtype) -> None:
    a = arguments(dtype)
    wide = {name: value.double() if isinstance(value, Tensor) else value for name, value in a.items()}
    expected = deform_conv2d(**wide)
    actual = deform_conv2d(**moved(a, device))
    assert actual.dtype == dtype
    # Half a unit in the last place of the result, and float32 sums of some 36 products.
    bound = expected.abs() * torch.finfo(dtype).eps / 2 + 1e-4 * (device == "cpu") + 2e-2 * (device == "cuda")
    assert bool(((actual.cpu().double() - expected).abs() <= bound).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_gradients(device: str, dtype: torch.dtype) -> None:
    a = arguments(dtype)
    names = ["input", "offset", "weight", "bias", "mask"]
    wide = {name: v.double().requires_grad_() if isinstance(v, Tensor) else v for name, v in a.items()}
    low = {name: v.to(device).requires_grad_() if isinstance(v, Tensor) else v for name, v in a.items()}
    deform_conv2d(**wide).sum().backward()
    deform_conv2d(**low).sum().backward()
    for name in names:
        assert low[name].grad.dtype == low[name].dtype
        eps = torch.finfo(low[name].dtype if device == "cpu" else dtype).eps
        scale = wide[name].grad.abs().max().clamp(min=1.0)
        assert float((low[name].grad.cpu().double() - wide[name].grad).abs().max() / scale) <= max(eps, 1e-5), name


def test_channels_last_in_and_out(device: str) -> None:
    a = moved(arguments(torch.float32), device)
    expected = deform_conv2d(**a)
    assert expected.is_contiguous()
    last = a["input"].contiguous(memory_format=torch.channels_last).requires_grad_()
    actual = deform_conv2d(**{**a, "input": last})
    assert actual.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual, expected)
    actual.sum().backward()
    assert last.grad.is_contiguous(memory_format=torch.channels_last)


def test_non_contiguous_arguments(device: str) -> None:
    a = moved(arguments(), device)
    strided = {
        name: torch.stack([value, value], dim=-1)[..., 0] if isinstance(value, Tensor) else value
        for name, value in a.items()
    }
    torch.testing.assert_close(deform_conv2d(**strided), deform_conv2d(**a), rtol=0, atol=0)


def test_no_image_and_one_cell(device: str) -> None:
    a = {n: v.requires_grad_() if isinstance(v, Tensor) else v for n, v in moved(arguments(batch=0), device).items()}
    output = deform_conv2d(**a)
    assert output.shape == (0, 4, 2, 3)
    output.sum().backward()
    assert not a["weight"].grad.any()
    one = deform_conv2d(
        torch.full((1, 1, 1, 1), 3.0, device=device),
        torch.full((1, 2, 1, 1), 0.5, device=device),
        torch.ones(1, 1, 1, 1, device=device),
    )
    assert one.item() == 0.75


def test_offsets_that_are_not_numbers_or_far_away_sample_zero(device: str) -> None:
    x = torch.ones(1, 1, 4, 4, device=device, requires_grad=True)
    for value in (math.nan, math.inf, -math.inf, 1e30, -1e30):
        offset = torch.full((1, 2, 4, 4), value, device=device, requires_grad=True)
        output = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1, device=device))
        assert not output.any()
        gradients = torch.autograd.grad(output.sum(), (x, offset))
        assert not gradients[0].any()
        assert not gradients[1].any()


def test_more_cells_and_channels_than_one_tile(device: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 70, 17, 19, generator=generator)
    offset, mask = torch.randn(1, 36, 17, 19, generator=generator), torch.rand(1, 18, 17, 19, generator=generator)
    weight = torch.randn(37, 70, 3, 3, generator=generator) / 25
    expected = deform_conv2d(x.double(), offset.double(), weight.double(), padding=1, mask=mask.double())
    tensors = [tensor.to(device) for tensor in (x, offset, weight, mask)]
    actual = deform_conv2d(*tensors[:3], padding=1, mask=tensors[3])
    torch.testing.assert_close(actual.cpu().double(), expected, rtol=1e-4, atol=1e-4)


def test_the_gradient_is_the_same_in_every_run_and_with_any_number_of_threads() -> None:
    a = arguments(torch.float32, batch=3)
    names = ["input", "offset", "weight", "bias", "mask"]

    def gradients() -> list[Tensor]:
        tensors = {name: a[name].clone().requires_grad_() for name in names}
        deform_conv2d(**{**a, **tensors}).square().sum().backward()
        return [tensors[name].grad for name in names]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = gradients()
        torch.set_num_threads(2)
        second = gradients()
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(5, 7), st.integers(5, 6)),
)
def test_equals_a_convolution_of_the_shifted_image(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    size: tuple[int, int],
) -> None:
    # One whole-cell offset for all taps is a convolution of the moved image.
    x = torch.arange(4 * size[0] * size[1], dtype=torch.float64).reshape(1, 4, *size) % 7
    weight = torch.arange(2 * 4 // groups * kernel[0] * kernel[1], dtype=torch.float64).reshape(2, -1, *kernel) % 5
    moved_x = torch.nn.functional.pad(x[:, :, 1:], (0, 0, 0, 1))  # row y holds what row y + 1 held
    wide = torch.nn.functional.pad(moved_x, (padding[1], padding[1], padding[0], padding[0]))
    if padding[0] > 0:  # the row above the image is the image's first row
        wide[:, :, padding[0] - 1, padding[1] : padding[1] + size[1]] = x[:, :, 0]
    expected = torch.nn.functional.conv2d(wide, weight, None, stride, 0, dilation, groups)
    offset = torch.zeros(1, 2 * kernel[0] * kernel[1], *expected.shape[2:], dtype=torch.float64)
    offset[:, ::2] = 1.0
    actual = deform_conv2d(x, offset, weight, None, stride, padding, dilation)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("with_mask", [True, False])
def test_agrees_with_torchvision(with_mask: bool) -> None:
    peer = pytest.importorskip("torchvision.ops")
    a = arguments(batch=5, with_mask=with_mask)
    names = [name for name, value in a.items() if isinstance(value, Tensor)]
    ours = {**a, **{name: a[name].clone().requires_grad_() for name in names}}
    theirs = {**a, **{name: a[name].clone().requires_grad_() for name in names}}
    expected, actual = peer.deform_conv2d(**theirs), deform_conv2d(**ours)
    torch.testing.assert_close(actual, expected)
    expected.square().sum().backward()
    actual.square().sum().backward()
    for name in names:
        torch.testing.assert_close(ours[name].grad, theirs[name].grad, msg=name)


def test_autocast_keeps_offsets_in_float32() -> None:
    a = arguments(torch.float32)
    low = {**a, **{name: a[name].to(torch.bfloat16) for name in ("input", "weight", "bias")}}
    expected = deform_conv2d(**low)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = deform_conv2d(**a)
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, expected)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_the_gpu_has_a_deterministic_gradient(cuda: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    a = moved(arguments(dtype), cuda)
    features = a["input"].requires_grad_()

    def gradient() -> Tensor:
        return torch.autograd.grad(deform_conv2d(**{**a, "input": features}).sum(), features)[0]

    expected = gradient()
    torch.use_deterministic_algorithms(True)
    try:
        first, second = gradient(), gradient()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, expected)


def test_errors_name_the_argument() -> None:
    a = arguments()
    with pytest.raises(ValueError, match="`offset` must have a multiple of 12 channels"):
        deform_conv2d(**{**a, "offset": a["offset"][:, :13]})
    with pytest.raises(ValueError, match=r"`offset` must have shape \[2, \*, 2, 3\], got \[2, 36, 1, 3\]"):
        deform_conv2d(**{**a, "offset": a["offset"][:, :, :1]})
    with pytest.raises(ValueError, match=r"`mask` must have shape \[2, 18, 2, 3\], got \[2, 17, 2, 3\]"):
        deform_conv2d(**{**a, "mask": a["mask"][:, :17]})
    with pytest.raises(ValueError, match=r"`weight` must have dtype torch\.float64"):
        deform_conv2d(**{**a, "weight": a["weight"].float()})
    with pytest.raises(ValueError, match="must divide the 6 channels"):
        deform_conv2d(**{**a, "weight": a["weight"].new_zeros(4, 4, 3, 2)})
    with pytest.raises(RuntimeError, match="`stride` must hold two numbers of at least 1"):
        torch.ops.fastdet.deform_conv2d(a["input"], a["offset"], None, a["weight"], None, [0, 1], [1, 0], [2, 1], False)
