"""box_iou and paired_box_iou: values, gradients and bounds of IoU, GIoU, DIoU and CIoU; torchvision's forms."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from fastdet.ops import box_iou, paired_box_iou, reference
from tests.ops.samples import random_boxes

Kind = Literal["iou", "giou", "diou", "ciou"]
PAIRED: tuple[Kind, ...] = ("iou", "giou", "diou", "ciou")


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes and partners: some near, some far, some equal in a coordinate, some inverted, all in float64."""
    first = random_boxes(count, seed, 60.0, 40.0).double()
    second = random_boxes(count, seed + 1, 60.0, 40.0).double()
    generator = torch.Generator().manual_seed(seed)
    near = first + 3 * torch.randn(count, 4, generator=generator, dtype=torch.float64)
    second = torch.where(torch.arange(count)[:, None] % 2 == 0, near, second)
    same = torch.rand(count, 4, generator=generator) < 0.1
    return first, torch.where(same, first, second)


def gradients(function: Any, first: Tensor, second: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    leaves = first.clone().requires_grad_(), second.clone().requires_grad_()
    value = function(*leaves, **options)
    scale = torch.arange(1, value.numel() + 1, dtype=value.dtype, device=value.device).sqrt()
    return torch.autograd.grad((value * scale).sum(), leaves)


def test_values_computed_by_hand(device: str) -> None:
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]], device=device)
    second = torch.tensor([[1.0, 1, 3, 3], [4, 0, 6, 2]], device=device)
    assert paired_box_iou(first, second).tolist() == pytest.approx([1 / 7, 0])
    assert paired_box_iou(first, second, kind="giou").tolist() == pytest.approx([1 / 7 - 2 / 9, -1 / 3])
    assert paired_box_iou(first, second, kind="diou").tolist() == pytest.approx([1 / 7 - 2 / 18, -16 / 40])
    assert paired_box_iou(first, second, kind="ciou").tolist() == pytest.approx([1 / 7 - 2 / 18, -16 / 40])
    wide, tall = torch.tensor([[0.0, 0, 4, 2]], device=device), torch.tensor([[0.0, 0, 4, 3]], device=device)
    iou, shape = 2 / 3, 4 / math.pi**2 * (math.atan(4 / 3) - math.atan(2)) ** 2
    expected = iou - 0.25 / 25 - shape * shape / (1 - iou + shape)
    assert paired_box_iou(wide, tall, kind="ciou").item() == pytest.approx(expected)
    assert box_iou(first[:1], second).tolist() == [pytest.approx([1 / 7, 0])]
    assert box_iou(wide, second, kind="iof").tolist() == [pytest.approx([2 / 8, 0])]
    assert box_iou(first[:1], second, kind="giou").tolist() == [pytest.approx([1 / 7 - 2 / 9, -1 / 3])]


@pytest.mark.parametrize("kind", PAIRED)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 127, 128, 129, 300])
def test_pairs_equal_the_reference_in_float64(device: str, kind: Kind, count: int) -> None:
    first, second = pairs(count, count)
    expected = reference.paired_box_iou(first, second, kind=kind)
    actual = paired_box_iou(first.to(device), second.to(device), kind=kind)
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-11, atol=1e-13)
    wanted = gradients(reference.paired_box_iou, first, second, kind=kind)
    found = gradients(paired_box_iou, first.to(device), second.to(device), kind=kind)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", PAIRED)
def test_float32_pairs_are_near_the_reference(device: str, kind: Kind) -> None:
    first, second = (v.float() for v in pairs(500, 3))
    expected = reference.paired_box_iou(first.double(), second.double(), kind=kind)
    actual = paired_box_iou(first.to(device), second.to(device), kind=kind)
    # Areas of coordinates up to 70 are exact to 2^-24 * 70^2 * a few; the smallest unions here are above 1.
    area = (first[:, 2:] - first[:, :2]).abs().prod(1) + (second[:, 2:] - second[:, :2]).abs().prod(1)
    steady = area > 20
    torch.testing.assert_close(actual.cpu().double()[steady], expected[steady], rtol=0, atol=2e-4)
    wanted = gradients(reference.paired_box_iou, first.double(), second.double(), kind=kind)
    found = gradients(paired_box_iou, first.to(device), second.to(device), kind=kind)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.cpu().double()[steady], b[steady], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", PAIRED)
def test_gradcheck(kind: Kind) -> None:
    first, second = random_boxes(8, 5, 20.0, 40.0).double(), random_boxes(8, 6, 20.0, 40.0).double()

    def value(a: Tensor, b: Tensor) -> Tensor:
        return paired_box_iou(a, b, kind=kind)

    if kind == "ciou":  # its factor is a constant for the gradient: only pairs below an IoU of 0.5 have none
        first, second = (v[reference.paired_box_iou(first, second) < 0.5] for v in (first, second))
    torch.autograd.gradcheck(value, (first.requires_grad_(), second.requires_grad_()))


@pytest.mark.parametrize("kind", ["iou", "giou", "iof"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 127), (5, 129), (40, 300)])
def test_matrices_equal_the_reference(device: str, kind: Any, rows: int, columns: int) -> None:
    first, second = random_boxes(2 * rows, 7).double().view(2, rows, 4), random_boxes(2 * columns, 8).double()
    for other in (second[:columns], second.view(2, columns, 4)):
        expected = torch.stack(
            [reference.box_iou(f, o, kind=kind) for f, o in zip(first, other.expand(2, columns, 4), strict=True)]
        )
        actual = box_iou(first.to(device), other.to(device), kind=kind)
        torch.testing.assert_close(actual.cpu(), expected, rtol=1e-12, atol=1e-14)
    actual = box_iou(first[0].to(device), second[:columns].to(device), kind=kind)
    torch.testing.assert_close(actual.cpu(), reference.box_iou(first[0], second[:columns], kind=kind))


def test_float32_matrices_equal_the_plain_formula_bit_for_bit(device: str) -> None:
    # Assignments compare overlaps with thresholds and with each other.
    first, second = random_boxes(30, 9).to(device), random_boxes(333, 10).to(device)
    assert torch.equal(box_iou(first, second), reference.box_iou(first, second))


def test_agrees_with_torchvision() -> None:
    torchvision_ops = pytest.importorskip("torchvision.ops")
    first, second = random_boxes(50, 11).double(), random_boxes(70, 12).double()
    torch.testing.assert_close(box_iou(first, second), torchvision_ops.box_iou(first, second))
    expected = torchvision_ops.generalized_box_iou(first, second)
    torch.testing.assert_close(box_iou(first, second, kind="giou"), expected)
    a, b = first, first + torch.randn(50, 4, generator=torch.Generator().manual_seed(13), dtype=torch.float64)
    for kind, name in (("giou", "generalized_box_iou_loss"), ("diou", "distance_box_iou_loss")):
        peer = getattr(torchvision_ops, name)
        torch.testing.assert_close(1 - paired_box_iou(a, b, kind=kind), peer(a, b), rtol=1e-5, atol=1e-6)


def test_boxes_that_are_empty_inverted_or_not_finite_do_no_harm(device: str) -> None:
    boxes = torch.tensor(
        [[0.0, 0, 0, 0], [5, 5, 1, 1], [0, 0, 4, 4], [-math.inf, 0, math.inf, 1], [math.nan, 0, 1, 1], [2, 2, 2, 9]],
        device=device,
    )
    assert box_iou(boxes[:1], boxes[:1]).item() == 0
    assert box_iou(boxes[1:2], boxes[2:3]).item() == 0
    square = torch.tensor([[0.0, 0, 4, 4]], device=device)
    for kind in PAIRED:
        values = paired_box_iou(boxes, square.expand(6, 4), kind=kind)
        assert values[:3].isfinite().all()
        assert values[5].isfinite()
        first, _ = gradients(paired_box_iou, boxes, square.expand(6, 4), kind=kind)
        assert first[:3].isfinite().all()


def test_no_boxes_and_no_partners(device: str) -> None:
    none, some = torch.zeros(0, 4, device=device), torch.zeros(3, 4, device=device)
    assert box_iou(none, some).shape == (0, 3)
    assert box_iou(some, none).shape == (3, 0)
    assert box_iou(some[None].expand(2, 3, 4), none).shape == (2, 3, 0)
    assert box_iou(some.new_zeros(0, 3, 4), some).shape == (0, 3, 3)
    leaf = none.clone().requires_grad_()
    assert torch.autograd.grad(paired_box_iou(leaf, none).sum(), leaf)[0].shape == (0, 4)


def test_shapes_strides_and_low_precision(device: str) -> None:
    first, second = (v.float().to(device) for v in pairs(60, 14))
    expected = paired_box_iou(first, second, kind="giou")
    assert torch.equal(paired_box_iou(first.view(3, 20, 4), second.view(3, 20, 4), kind="giou").flatten(), expected)
    assert torch.equal(paired_box_iou(first.t().contiguous().t(), second, kind="giou"), expected)
    assert paired_box_iou(first[0], second[0], kind="giou") == expected[0]
    low = first.to(torch.bfloat16)
    assert torch.equal(paired_box_iou(low, second), paired_box_iou(low.float(), second))
    with torch.autocast(device, dtype=torch.bfloat16):
        assert torch.equal(paired_box_iou(first, second, kind="giou"), expected)
    assert torch.equal(box_iou(first.t().contiguous().t(), second[::2]), box_iou(first, second[::2].contiguous()))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"`second` must have shape \[3, 4\], got \[2, 4\]"):
        paired_box_iou(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"`first` must have shape \[\.\.\., 4\], got \[3, 5\]"):
        paired_box_iou(torch.zeros(3, 5), torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"`kind` must be 'iou', 'giou', 'diou' or 'ciou', got 'iof'"):
        paired_box_iou(torch.zeros(3, 4), torch.zeros(3, 4), kind="iof")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`kind` must be 'iou', 'giou' or 'iof', got 'ciou'"):
        box_iou(torch.zeros(3, 4), torch.zeros(3, 4), kind="ciou")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`second` must have shape \[2, \*, 4\], got \[3, 1, 4\]"):
        box_iou(torch.zeros(2, 3, 4), torch.zeros(3, 1, 4))
