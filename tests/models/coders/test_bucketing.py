"""Boxes by buckets, by hand."""

import pytest
import torch

from fastdet.models.coders import BucketingBBoxCoder
from fastdet.models.coders.bucketing import bucket_confidence

# Scaled by 2 it is 0 to 40 in x and 0 to 80 in y: of four buckets each is 10 wide and 20 high.
REFERENCE = torch.tensor([10.0, 20.0, 30.0, 60.0])


def make_coder(**changes):
    return BucketingBBoxCoder(4, 2.0, **changes)


def test_each_side_has_a_bucket_and_offsets_to_its_two_nearest() -> None:
    """Middles are 5 and 15 from the left, 35 and 25 from the right, 10 and 30 from the top, 70 and 50."""
    targets = make_coder().targets(REFERENCE, torch.tensor([7.0, 32.0, 24.0, 69.0]))
    assert targets.labels.tolist() == [1, 0, 0, 1, 0, 1, 1, 0]
    assert targets.offsets.tolist() == pytest.approx([-0.2, 0.8, 1.1, 0.1, -1.1, -0.1, 0.05, -0.95])
    # the others are trained, and not counted as wrong buckets, where they are less than one bucket away
    assert targets.offset_weights.tolist() == [1, 1, 0, 1, 0, 1, 1, 1]
    assert targets.label_weights.tolist() == [1, 0, 1, 1, 1, 1, 1, 0]
    every = make_coder(cls_ignore_neighbor=False).targets(REFERENCE, torch.tensor([7.0, 32.0, 24.0, 69.0]))
    assert every.label_weights.tolist() == [1] * 8


def test_decoding_finds_the_box_again() -> None:
    coder, box = make_coder(), torch.tensor([7.0, 32.0, 24.0, 69.0])
    targets = coder.targets(REFERENCE, box)
    deltas = torch.cat((targets.labels, targets.offsets))
    torch.testing.assert_close(coder.decode(REFERENCE, deltas), box)
    broadcast = coder.decode(REFERENCE.expand(2, 3, 1, 4), deltas.expand(2, 3, 2, 16), torch.tensor([[50, 20]] * 2))
    torch.testing.assert_close(broadcast, torch.tensor([7.0, 32.0, 19.0, 49.0]).expand(2, 3, 2, 4))


def test_buckets_are_sure_if_the_best_two_are_neighbours() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.2, 0.3], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]]).log()
    assert bucket_confidence(logits).item() == pytest.approx((0.8 + 0.5 + 0.8 + 0.5) / 4)
