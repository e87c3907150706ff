"""Distance coders: hand-computed boxes, round trips, clipping."""

import pytest
import torch

from fastdet.models.coders import DistancePointBBoxCoder, DistributionBBoxCoder

CELL = torch.tensor([[8.0, 16.0, 16.0, 24.0]])  # its centre is (12, 20)


def test_distances_run_from_the_centre_of_the_reference() -> None:
    coder = DistancePointBBoxCoder()
    assert coder.decode(CELL, torch.tensor([[1.0, 2, 3, 4]])).tolist() == [[11, 18, 15, 24]]
    assert coder.encode(CELL, torch.tensor([[11.0, 18, 15, 24]])).tolist() == [[1, 2, 3, 4]]


def test_distances_may_be_in_strides() -> None:
    coder = DistancePointBBoxCoder(in_strides=True)
    assert coder.decode(CELL, torch.tensor([[0.5, 1, 0, 2]])).tolist() == [[8, 12, 12, 36]]
    assert coder.encode(CELL, torch.tensor([[8.0, 12, 12, 36]])).tolist() == [[0.5, 1, 0, 2]]


def test_boxes_are_clipped_to_their_own_image() -> None:
    far = torch.full((2, 1, 4), 100.0)
    sizes = torch.tensor([[30, 40], [25, 50]])
    assert DistancePointBBoxCoder().decode(CELL, far, sizes).tolist() == [[[0, 0, 40, 30]], [[0, 0, 50, 25]]]
    assert DistancePointBBoxCoder(clip_border=False).decode(CELL, far, sizes)[0, 0, 0].item() == -88


def test_a_distribution_stands_for_its_mean() -> None:
    coder = DistributionBBoxCoder(reg_max=2, cells=2.0)  # the reference is two strides of 4 wide
    logits = torch.tensor([[0.0, 0, 0, 9, -99, -99, -99, -99, 9, -99, 9, -99]])
    assert coder.decode(CELL, logits)[0].tolist() == pytest.approx([8, 20, 20, 24], abs=2e-3)


def test_distances_of_distributions_end_below_the_last_bin() -> None:
    coder = DistributionBBoxCoder(reg_max=2, cells=2.0)
    assert coder.encode(CELL, torch.tensor([[10.0, 21, 99, 24]]))[0].tolist() == pytest.approx([0.5, 0, 1.9, 1])
