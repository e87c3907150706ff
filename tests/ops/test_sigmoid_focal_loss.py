"""sigmoid_focal_loss: values and gradients of the formula, labels, weights, torchvision's dense targets."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fastdet.ops import reference, sigmoid_focal_loss

GAMMAS = (0.0, 0.5, 1.0, 2.0, 3.7)


def inputs(rows: int, classes: int, seed: int, spread: float = 4.0) -> tuple[Tensor, Tensor]:
    """Logits in float64 and labels, background and numbers that are no class among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(-1, classes + 2, (rows,), generator=generator)


def gradient(function: Any, logits: Tensor, *arguments: Any, **options: Any) -> Tensor:
    leaf = logits.clone().requires_grad_()
    loss = function(leaf, *arguments, **options)
    scale = torch.arange(1, loss.numel() + 1, dtype=loss.dtype, device=loss.device).view(loss.shape).sqrt()
    return torch.autograd.grad((loss * scale).sum(), leaf)[0]


def test_values_computed_by_hand(device: str) -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]], device=device)  # probabilities 1/2 and 3/4
    loss = sigmoid_focal_loss(logits, torch.tensor([1], device=device))
    expected = [0.75 * 0.25 * math.log(2), 0.25 * (1 / 16) * math.log(4 / 3)]
    assert loss[0].tolist() == pytest.approx(expected, rel=1e-6)
    assert sigmoid_focal_loss(logits, torch.tensor([2], device=device), reduction="sum").item() == pytest.approx(
        0.75 * (0.25 * math.log(2) + 9 / 16 * math.log(4)), rel=1e-6
    )


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (37, 1), (3, 7), (29, 80), (3, 700), (2, 1)])
def test_equals_the_reference_in_float64(device: str, rows: int, classes: int, gamma: float) -> None:
    logits, labels = inputs(rows, classes, rows * classes)
    options = {"gamma": gamma, "alpha": 0.3}
    expected = reference.sigmoid_focal_loss(logits, labels, **options)
    actual = sigmoid_focal_loss(logits.to(device), labels.to(device), **options)
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-12, atol=0)
    expected = gradient(reference.sigmoid_focal_loss, logits, labels, **options)
    actual = gradient(sigmoid_focal_loss, logits.to(device), labels.to(device), **options)
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_float32_is_exact_to_a_few_roundings(device: str, gamma: float) -> None:
    logits, labels = inputs(97, 33, 5, spread=6.0)
    single = logits.float()
    options = {"gamma": gamma}
    expected = reference.sigmoid_focal_loss(single.double(), labels, **options)
    actual = sigmoid_focal_loss(single.to(device), labels.to(device), **options)
    # The power is exp(gamma * log q): the rounding of its argument, up to 100, counts as often.
    relative = 2**-24 * (16 + (0 if gamma == 2 else 40 * gamma))
    torch.testing.assert_close(actual.cpu().double(), expected, rtol=relative, atol=1e-38)
    expected = gradient(reference.sigmoid_focal_loss, single.double(), labels, **options)
    actual = gradient(sigmoid_focal_loss, single.to(device), labels.to(device), **options)
    torch.testing.assert_close(actual.cpu().double(), expected, rtol=2 * relative, atol=1e-36)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_logits_are_computed_in_float32(device: str, dtype: torch.dtype) -> None:
    logits, labels = inputs(23, 21, 6)
    low = logits.to(dtype).to(device)
    labels = labels.to(device)
    loss = sigmoid_focal_loss(low, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, sigmoid_focal_loss(low.float(), labels), rtol=0, atol=0)
    slope = gradient(sigmoid_focal_loss, low, labels)
    assert slope.dtype == dtype
    torch.testing.assert_close(slope, gradient(sigmoid_focal_loss, low.float(), labels).to(dtype), rtol=0, atol=0)


def test_gradcheck() -> None:
    logits, labels = inputs(5, 3, 7, spread=2.0)
    logits.requires_grad_()
    weight = torch.rand(5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    for reduction in ("none", "sum"):
        for gamma in (0.5, 2.0):
            torch.autograd.gradcheck(
                lambda x, r=reduction, g=gamma: sigmoid_focal_loss(x, labels, weight=weight, gamma=g, reduction=r),
                (logits,),
            )


@pytest.mark.parametrize("per_class", [False, True])
def test_weights_scale_rows_or_elements(device: str, per_class: bool) -> None:
    logits, labels = inputs(41, 19, 9)
    weight = torch.rand(41, 19, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    weight = torch.where(weight < 0.3, 0.0, weight)
    weight = weight if per_class else weight[:, 0]
    expected = reference.sigmoid_focal_loss(logits, labels, weight=weight)
    actual = sigmoid_focal_loss(logits.to(device), labels.to(device), weight=weight.to(device))
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-12, atol=0)
    expected = gradient(reference.sigmoid_focal_loss, logits, labels, weight=weight)
    actual = gradient(sigmoid_focal_loss, logits.to(device), labels.to(device), weight=weight.to(device))
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-11, atol=1e-15)


def test_weight_zero_silences_logits_that_are_not_finite(device: str) -> None:
    logits = torch.tensor([[math.nan, 1.0], [math.inf, -math.inf], [0.5, 0.5]], device=device)
    labels, weight = torch.tensor([0, 1, 2], device=device), torch.tensor([0.0, 0.0, 1.0], device=device)
    for chosen in (weight, weight[:, None].expand(3, 2)):
        loss = sigmoid_focal_loss(logits, labels, weight=chosen)
        assert loss[:2].tolist() == [[0, 0], [0, 0]]
        assert gradient(sigmoid_focal_loss, logits, labels, weight=chosen)[:2].tolist() == [[0, 0], [0, 0]]
        assert math.isfinite(sigmoid_focal_loss(logits, labels, weight=chosen, reduction="sum").item())


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_logits_have_their_limits_and_nan_stays(device: str, gamma: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[math.inf, -math.inf], [math.inf, -math.inf], [math.nan, 0]], device=device, dtype=dtype)
    labels = torch.tensor([0, 1, 1], device=device)
    loss = sigmoid_focal_loss(logits, labels, gamma=gamma)
    assert loss[:2].tolist() == [[0, 0], [math.inf, math.inf]]
    assert loss[2].isnan().tolist() == [True, False]
    leaf = logits.clone().requires_grad_()
    slope = torch.autograd.grad(sigmoid_focal_loss(leaf, labels, gamma=gamma, reduction="sum"), leaf)[0]
    expected = torch.tensor([[0, 0], [0.75, -0.25]], dtype=dtype)
    torch.testing.assert_close(slope[:2].cpu(), expected, rtol=1e-6, atol=0)
    assert slope[2].isnan().tolist() == [True, False]


def test_huge_logits_neither_overflow_nor_lose_small_losses(device: str) -> None:
    logits, labels = torch.tensor([[-80.0, 80.0, -1e30, 1e30]], device=device), torch.tensor([1], device=device)
    loss = sigmoid_focal_loss(logits, labels, gamma=0.0, alpha=None)[0].tolist()
    assert loss[0] == pytest.approx(math.exp(-80), rel=1e-6)
    assert loss[1] == pytest.approx(math.exp(-80), rel=1e-6)
    assert loss[2] == 0
    assert loss[3] == pytest.approx(1e30)


def test_no_rows_no_classes_and_one_row_without_others(device: str) -> None:
    for shape in ((0, 5), (3, 0), (2, 0, 4)):
        logits = torch.zeros(shape, device=device, requires_grad=True)
        labels = torch.zeros(shape[:-1], dtype=torch.int64, device=device)
        for weight in (None, torch.ones(shape[:-1], device=device), torch.ones(shape, device=device)):
            assert sigmoid_focal_loss(logits, labels, weight=weight).shape == shape
            total = sigmoid_focal_loss(logits, labels, weight=weight, reduction="sum")
            assert total.item() == 0
            assert torch.autograd.grad(total, logits)[0].shape == shape
    one = torch.zeros(4, device=device)
    assert sigmoid_focal_loss(one, torch.tensor(2, device=device)).shape == (4,)


def test_leading_dimensions_and_strides_do_not_matter(device: str) -> None:
    logits, labels = inputs(24, 10, 11)
    logits, labels = logits.to(device), labels.to(device)
    expected = sigmoid_focal_loss(logits, labels)
    assert torch.equal(sigmoid_focal_loss(logits.view(2, 3, 4, 10), labels.view(2, 3, 4)), expected.view(2, 3, 4, 10))
    strided = logits.t().contiguous().t()
    assert torch.equal(sigmoid_focal_loss(strided, labels.repeat_interleave(2)[::2]), expected)
    assert torch.equal(gradient(sigmoid_focal_loss, strided, labels), gradient(sigmoid_focal_loss, logits, labels))


def test_the_sum_is_the_sum_and_does_not_depend_on_threads(device: str) -> None:
    logits, labels = inputs(5000, 81, 12)
    single = logits.float().to(device)
    total = sigmoid_focal_loss(single, labels.to(device), reduction="sum")
    expected = reference.sigmoid_focal_loss(single.cpu().double(), labels).sum()
    # Block sums in float, of 32 terms a lane at most: their roundings average out far below one part in a million.
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(sigmoid_focal_loss(single, labels.to(device), reduction="sum"), total)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("alpha", [0.25, 0.6, None])
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_equals_torchvision_with_one_hot_targets(alpha: float | None, reduction: Any) -> None:
    torchvision_ops = pytest.importorskip("torchvision.ops")
    logits, labels = inputs(50, 12, 13)
    target = (labels[:, None] == torch.arange(12)).double()
    peer_alpha = -1 if alpha is None else alpha

    def peer(x: Tensor) -> Tensor:
        return torchvision_ops.sigmoid_focal_loss(x, target, peer_alpha, 1.5, reduction)

    def ours(x: Tensor) -> Tensor:
        return sigmoid_focal_loss(x, labels, alpha=alpha, gamma=1.5, reduction=reduction)

    torch.testing.assert_close(ours(logits), peer(logits), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient(ours, logits), gradient(peer, logits), rtol=1e-9, atol=1e-12)


def test_autocast_does_not_change_the_loss() -> None:
    logits, labels = inputs(10, 4, 14)
    single = logits.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sigmoid_focal_loss(single, labels), sigmoid_focal_loss(single, labels))
        assert sigmoid_focal_loss(single, labels).dtype == torch.float32


def test_errors_name_the_argument() -> None:
    logits, labels = torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"`labels` must have shape \[3\], got \[4\]"):
        sigmoid_focal_loss(logits, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`labels` must have dtype torch\.int64"):
        sigmoid_focal_loss(logits, torch.zeros(3))
    with pytest.raises(ValueError, match=r"`weight` must have shape \[3, 4\], got \[4, 3\]"):
        sigmoid_focal_loss(logits, labels, weight=torch.zeros(4, 3))
    with pytest.raises(ValueError, match="`weight` gets no gradient"):
        sigmoid_focal_loss(logits, labels, weight=torch.zeros(3, requires_grad=True))
    with pytest.raises(ValueError, match="`gamma` must not be negative, got -1"):
        sigmoid_focal_loss(logits, labels, gamma=-1)
    with pytest.raises(ValueError, match="`reduction` must be"):
        sigmoid_focal_loss(logits, labels, reduction="mean")  # type: ignore[arg-type]
