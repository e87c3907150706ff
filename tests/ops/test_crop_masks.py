"""crop_masks: RoIAlign of full-size masks, without making them."""

import pytest
import torch
from torch import Tensor

from fastdet.ops import crop_masks, reference

IMAGE_SIZE = (30, 40)


def some_masks() -> tuple[Tensor, Tensor, Tensor]:
    bits = (torch.rand(600, generator=torch.Generator().manual_seed(0)) > 0.4).to(torch.uint8)
    windows = torch.tensor(
        [[3, 4, 10, 10], [0, 0, 5, 20], [30, 20, 10, 10], [2, 2, 20, 10], [7, 7, 0, 0]], dtype=torch.int32
    )
    return bits, torch.tensor([0, 100, 200, 300, 500]), windows


def some_boxes() -> tuple[Tensor, Tensor]:
    boxes = [
        [2, 2, 15, 15],
        [0, 0, 5, 20],
        [29.5, 19, 50, 50],
        [0, 0, 40, 30],
        [1, 1, 2, 2],
        [5, 5, 9.25, 7],
        [-20, -20, 60, 60],
        [6, 6, 6, 6],
        [9, 9, 2, 2],
        [3, 3, 30, 30],
    ]
    return torch.tensor([0, 1, 2, 3, -1, 3, 2, 0, 0, 4]), torch.tensor(boxes, dtype=torch.float32)


def test_a_box_on_its_own_mask_returns_the_mask(device: str) -> None:
    bits = torch.tensor([1, 0, 0, 1, 1, 1, 0, 1, 0], dtype=torch.uint8, device=device)
    windows = torch.tensor([[4, 5, 3, 3]], dtype=torch.int32, device=device)
    index = torch.zeros(1, dtype=torch.int64, device=device)
    boxes = torch.tensor([[4.0, 5, 7, 8]], device=device)
    crop = crop_masks(bits, index, windows, index, boxes, 3, (20, 20))
    assert crop.flatten().tolist() == bits.tolist()


@pytest.mark.parametrize("side", [1, 7, 28])
def test_equals_the_reference(device: str, side: int) -> None:
    masks, (index, boxes) = some_masks(), some_boxes()
    expected = reference.crop_masks(*masks, index, boxes.double(), side, IMAGE_SIZE)
    actual = crop_masks(*(m.to(device) for m in masks), index.to(device), boxes.to(device), side, IMAGE_SIZE)
    # Positions below 64 pixels are rounded three times to 1.9e-6 at most, on two axes.
    torch.testing.assert_close(actual.cpu().double(), expected, rtol=0, atol=1.2e-5)


def test_equals_torchvision_bit_for_bit(device: str) -> None:
    # The comparison with 0.5 that follows must fall as it does for MMDetection, so sums are made in the same order.
    torchvision_ops = pytest.importorskip("torchvision.ops")
    masks, (index, boxes) = some_masks(), some_boxes()
    images = torch.zeros(5, 1, *IMAGE_SIZE)
    for g, (x0, y0, width, height) in enumerate(masks[2].tolist()):
        start = int(masks[1][g])
        images[g, 0, y0 : y0 + height, x0 : x0 + width] = masks[0][start : start + width * height].view(height, width)
    rois = torch.cat([index.clamp(min=0).float()[:, None], boxes], dim=1)
    expected = torchvision_ops.roi_align(images, rois, 28, 1.0, -1, True)[:, 0]
    expected[index < 0] = 0
    actual = crop_masks(*(m.to(device) for m in masks), index.to(device), boxes.to(device), 28, IMAGE_SIZE)
    assert torch.equal(actual.cpu(), expected)


def test_strided_arguments_and_boxes_that_are_not_finite(device: str) -> None:
    (bits, offsets, windows), (index, boxes) = some_masks(), some_boxes()
    boxes[1, 2], boxes[3, 0] = torch.nan, torch.inf
    plain = crop_masks(*(t.to(device) for t in (bits, offsets, windows, index, boxes)), 7, IMAGE_SIZE)
    assert plain[[1, 3]].abs().sum() == 0
    strided = [tensor.repeat_interleave(2, 0).to(device)[::2] for tensor in (bits, offsets, windows, index, boxes)]
    assert torch.equal(crop_masks(*strided, 7, IMAGE_SIZE), plain)


def test_no_boxes_and_no_masks(device: str) -> None:
    bits = torch.zeros(0, dtype=torch.uint8, device=device)
    none = torch.zeros(0, dtype=torch.int64, device=device)
    windows = torch.zeros(0, 4, dtype=torch.int32, device=device)
    assert crop_masks(bits, none, windows, none, torch.zeros(0, 4, device=device), 28, (5, 5)).shape == (0, 28, 28)
    outside = torch.full((2,), -1, dtype=torch.int64, device=device)
    assert crop_masks(bits, none, windows, outside, torch.ones(2, 4, device=device), 4, (5, 5)).abs().sum() == 0


def test_a_mask_out_of_range_is_an_error_on_the_cpu() -> None:
    bits, offsets, windows = some_masks()
    box = torch.zeros(1, 4)
    with pytest.raises(RuntimeError, match="`mask_index` row 0 is 5, but there are 5 masks"):
        crop_masks(bits, offsets, windows, torch.tensor([5]), box, 7, IMAGE_SIZE)
    with pytest.raises(RuntimeError, match="the bitmap of mask 3 does not lie inside `bits`, which has 400 elements"):
        crop_masks(bits[:400], offsets, windows, torch.tensor([3]), box, 7, IMAGE_SIZE)


def test_errors_name_the_argument() -> None:
    bits, offsets, windows = some_masks()
    with pytest.raises(ValueError, match=r"`windows` must have dtype torch.int32, got torch.int64"):
        crop_masks(bits, offsets, windows.long(), torch.tensor([0]), torch.zeros(1, 4), 7, IMAGE_SIZE)
    with pytest.raises(ValueError, match=r"`boxes` must have shape \[2, 4\], got \[1, 4\]"):
        crop_masks(bits, offsets, windows, torch.tensor([0, 0]), torch.zeros(1, 4), 7, IMAGE_SIZE)
