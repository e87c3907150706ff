"""Pasting small masks into images."""

import pytest
import torch
import torch.nn.functional as F

from fastdet.models.postprocess.masks import paste_masks


def sample_over_whole_image(mask, box, height, width):
    """The definition: the mask's value at every pixel centre of the image."""
    x1, y1, x2, y2 = box
    x = ((torch.arange(width) + 0.5) - x1) / (x2 - x1) * 2 - 1
    y = ((torch.arange(height) + 0.5) - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
    return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]


def test_a_full_mask_fills_the_pixels_whose_centres_lie_in_the_box():
    pasted = paste_masks(torch.ones(1, 4, 4), torch.tensor([[1.0, 2.0, 4.0, 5.0]]), (6, 7))
    expected = torch.zeros(6, 7, dtype=torch.bool)
    expected[2:5, 1:4] = True
    assert torch.equal(pasted[0], expected)


def test_the_left_half_of_a_mask_fills_the_left_half_of_the_box():
    mask = torch.zeros(1, 2, 2)
    mask[0, :, 0] = 1
    pasted = paste_masks(mask, torch.tensor([[0.0, 0.0, 8.0, 8.0]]), (8, 8))
    # In mask cells the columns' centres are -0.375, -0.125, 0.125, 0.375, ...: weights 0.625, 0.875, 0.875, 0.625 of
    # the full column, then less than half; the rim rows weigh 0.625, and 0.625 * 0.625 < 0.5 cuts the corners.
    assert pasted[0].sum(dim=0).tolist() == [6, 8, 8, 6, 0, 0, 0, 0]


def test_every_pixel_equals_sampling_over_the_whole_image():
    generator = torch.Generator().manual_seed(3)
    masks = torch.rand(20, 28, 28, generator=generator)
    corners = torch.rand(20, 2, 2, generator=generator) * torch.tensor([61.0, 47.0])
    boxes = torch.cat([corners.amin(1), corners.amax(1) + 0.3], dim=1)
    pasted = paste_masks(masks, boxes, (47, 61), 0.4)
    for mask, box, found in zip(masks, boxes, pasted, strict=True):
        values = sample_over_whole_image(mask, box, 47, 61)
        assert ((found == (values >= 0.4)) | ((values - 0.4).abs() < 1e-6)).all()  # up to rounding at the threshold


def test_a_box_without_extent_shows_the_middle_of_the_mask():
    mask = torch.zeros(1, 3, 3)
    mask[0, 1, 1] = 1
    pasted = paste_masks(mask, torch.tensor([[2.0, 0.0, 2.0, 3.0]]), (4, 5))
    assert pasted[0].nonzero().tolist() == [[1, 1], [1, 2]]  # the pixels on both sides of x = 2, in the middle row


def test_a_box_across_the_border_is_cut_at_the_border():
    pasted = paste_masks(torch.ones(1, 2, 2), torch.tensor([[-3.0, -2.0, 2.0, 12.0]]), (5, 4))
    assert pasted[0].sum(dim=1).tolist() == [2, 2, 2, 2, 2]


def test_a_box_outside_the_image_gives_an_empty_mask():
    assert not paste_masks(torch.ones(2, 2, 2), torch.tensor([[9.0, 0, 12, 3], [-9, -9, -4, -4]]), (5, 5)).any()


def test_no_instances_give_no_masks():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)


def test_masks_and_boxes_of_different_number_are_refused():
    with pytest.raises(ValueError, match="there are 2 and 1"):
        paste_masks(torch.zeros(2, 4, 4), torch.zeros(1, 4), (5, 6))
