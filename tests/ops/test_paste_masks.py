"""paste_masks: probabilities over boxes as bitmaps of an image."""

import math

import pytest
import torch
from torch import Tensor

from fastdet.ops import paste_masks, reference
from fastdet.ops.reference_masks import pasted_probabilities


def some_masks(count: int, side: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Masks, and boxes of all sizes, many of them partly outside of the image."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]])
    corners = (torch.rand(count, 2, 2, generator=generator) * 1.4 - 0.2) * extent
    return torch.rand(count, side, side, generator=generator), torch.cat([corners.amin(1), corners.amax(1) + 0.3], 1)


def test_a_full_mask_fills_the_pixels_whose_centres_lie_in_the_box(device: str) -> None:
    boxes = torch.tensor([[1.0, 2.0, 4.0, 5.0]], device=device)
    pasted = paste_masks(torch.ones(1, 4, 4, device=device), boxes, (6, 7))
    expected = torch.zeros(6, 7, dtype=torch.bool)
    expected[2:5, 1:4] = True
    assert torch.equal(pasted[0].cpu(), expected)


def test_the_left_half_of_a_mask_fills_the_left_half_of_the_box(device: str) -> None:
    mask = torch.zeros(1, 2, 2, device=device)
    mask[0, :, 0] = 1
    pasted = paste_masks(mask, torch.tensor([[0.0, 0.0, 8.0, 8.0]], device=device), (8, 8))
    # In mask cells the columns' centres are -0.375, -0.125, 0.125, 0.375, ...: weights 0.625, 0.875, 0.875, 0.625 of
    # the full column, then less than half; the rim rows weigh 0.625, and 0.625 * 0.625 < 0.5 cuts the corners.
    assert pasted[0].sum(dim=0).tolist() == [6, 8, 8, 6, 0, 0, 0, 0]


@pytest.mark.parametrize("side", [1, 5, 28])
@pytest.mark.parametrize("size", [(1, 1), (47, 61), (33, 16), (7, 300)])
def test_equals_sampling_at_every_pixel(device: str, side: int, size: tuple[int, int]) -> None:
    masks, boxes = some_masks(20, side, side, size)
    pasted = paste_masks(masks.to(device), boxes.to(device), size, 0.4).cpu()
    values = pasted_probabilities(masks.double(), boxes.double(), size)
    expected = reference.paste_masks(masks.double(), boxes.double(), size, 0.4)
    # Positions below 1.4 * 300 pixels are exact to 2^-15 pixels, of cells that differ by 1 at most; tiny boxes magnify
    # that by side / extent.
    extent = (boxes[:, 2:] - boxes[:, :2]).amin(1).double()
    slack = (2**-14 * (1 + side / extent))[:, None, None]
    assert pasted.shape == expected.shape
    assert ((pasted == expected) | ((values - 0.4).abs() < slack)).all()


def test_a_box_without_extent_shows_the_middle_of_the_mask(device: str) -> None:
    mask = torch.zeros(1, 3, 3, device=device)
    mask[0, 1, 1] = 1
    pasted = paste_masks(mask, torch.tensor([[2.0, 0.0, 2.0, 3.0]], device=device), (4, 5))
    assert pasted[0].nonzero().tolist() == [[1, 1], [1, 2]]  # the pixels on both sides of x = 2, in the middle row


def test_a_box_across_the_border_is_cut_at_the_border(device: str) -> None:
    boxes = torch.tensor([[-3.0, -2.0, 2.0, 12.0]], device=device)
    pasted = paste_masks(torch.ones(1, 2, 2, device=device), boxes, (5, 4))
    assert pasted[0].sum(dim=1).tolist() == [2, 2, 2, 2, 2]


def test_boxes_outside_the_image_inverted_or_not_finite_give_empty_masks(device: str) -> None:
    nan, inf = math.nan, math.inf
    boxes = [[9.0, 0, 12, 3], [-9, -9, -4, -4], [4, 4, 0, 0], [nan, 0, 3, 3], [0, 0, 3, nan], [1e30, 0, 2e30, 4]]
    pasted = paste_masks(torch.ones(6, 2, 2, device=device), torch.tensor(boxes, device=device), (5, 5))
    assert not pasted.any()
    huge = torch.tensor([[-1e30, -1e30, 1e30, 1e30], [-inf, 0, inf, 5]], device=device)
    assert paste_masks(torch.ones(2, 2, 2, device=device), huge, (5, 5))[0].all()


def test_nan_probabilities_belong_to_nothing(device: str) -> None:
    masks = torch.full((1, 2, 2), math.nan, device=device)
    assert not paste_masks(masks, torch.tensor([[0.0, 0, 5, 5]], device=device), (5, 5)).any()


def test_no_instances_and_no_pixels(device: str) -> None:
    none, boxes = torch.zeros(0, 28, 28, device=device), torch.zeros(0, 4, device=device)
    assert paste_masks(none, boxes, (5, 6)).shape == (0, 5, 6)
    assert paste_masks(torch.ones(2, 3, 3, device=device), torch.ones(2, 4, device=device), (0, 6)).shape == (2, 0, 6)


def test_low_precision_and_strided_masks(device: str) -> None:
    masks, boxes = (v.to(device) for v in some_masks(9, 28, 3, (40, 50)))
    expected = paste_masks(masks, boxes, (40, 50))
    assert expected.dtype == torch.bool
    assert torch.equal(paste_masks(masks.mT.contiguous().mT, boxes, (40, 50)), expected)
    low = masks.to(torch.bfloat16)
    assert torch.equal(paste_masks(low, boxes, (40, 50)), paste_masks(low.float(), boxes, (40, 50)))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"`boxes` must have shape \[2, 4\], got \[1, 4\]"):
        paste_masks(torch.zeros(2, 4, 4), torch.zeros(1, 4), (5, 6))
    with pytest.raises(ValueError, match=r"`masks` must have shape \[\*, \*, \*\], got \[2, 4\]"):
        paste_masks(torch.zeros(2, 4), torch.zeros(2, 4), (5, 6))
    with pytest.raises(ValueError, match="`masks` must be floating point"):
        paste_masks(torch.zeros(2, 4, 4, dtype=torch.int64), torch.zeros(2, 4), (5, 6))
