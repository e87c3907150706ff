"""Boxes that include their last pixel: MMDetection 1.x."""

import math

import pytest
import torch

from fastdet.models.coders import LegacyDeltaXYWHBBoxCoder


def test_sides_count_one_pixel_more() -> None:
    """A box from 0 to 9 has ten pixels, its object from 5 to 24 twenty; the centres are 4.5 and 14.5."""
    coder = LegacyDeltaXYWHBBoxCoder(target_stds=(0.5, 1.0, 1.0, 1.0))
    reference, box = torch.tensor([0.0, 0.0, 9.0, 9.0]), torch.tensor([5.0, 0.0, 24.0, 9.0])
    assert coder.encode(reference, box).tolist() == pytest.approx([2.0, 0.0, math.log(2), 0.0])


def test_decoded_boxes_are_not_shrunk_again_and_end_at_the_last_pixel() -> None:
    coder = LegacyDeltaXYWHBBoxCoder()
    references = torch.tensor([[[0.0, 0.0, 9.0, 9.0], [90.0, 40.0, 109.0, 59.0]]])
    found = coder.decode(references, torch.zeros(1, 2, 4))
    assert found[0, 0].tolist() == [-0.5, -0.5, 9.5, 9.5]
    clipped = coder.decode(references, torch.zeros(1, 2, 4), torch.tensor([[50, 100]]))
    assert clipped.tolist() == [[[0, 0, 9.5, 9.5], [89.5, 39.5, 99, 49]]]
