"""Samplers that balance or look at losses: what they take more of."""

import pytest
import torch

from fastdet.models.assigners import Assignment
from fastdet.models.samplers import CombinedSampler, InstanceBalancedPosSampler, IoUBalancedNegSampler, OHEMSampler


def assignment(gt_index, overlaps=None):
    gt_index = torch.tensor([gt_index])
    overlaps = torch.zeros(gt_index.shape) if overlaps is None else torch.tensor([overlaps])
    return Assignment(gt_index, overlaps)


def test_positives_are_taken_evenly_from_the_objects():
    # 8 candidates of object 0, 3 of object 1, one of object 4; six wanted: round(6 / 3) + 1 = 3 of each first
    given = assignment([0] * 8 + [1] * 3 + [4] + [-1] * 4)
    sampler = CombinedSampler(12, 0.5, pos_sampler=InstanceBalancedPosSampler())
    for seed in range(5):
        selection = sampler(given, generator=torch.Generator().manual_seed(seed))
        counts = selection.gt_index[selection.positive].bincount(minlength=5).tolist()
        assert sum(counts) == 6
        assert all(c <= 3 for c in counts)
        assert selection.negative.sum() == 4


def test_missing_positives_come_from_the_other_objects():
    given = assignment([0] * 9 + [1] + [-1] * 4)
    sampler = CombinedSampler(12, 0.75, pos_sampler=InstanceBalancedPosSampler(), order="index")
    selection = sampler(given)
    assert selection.positive.sum() == 9  # round(9 / 2) + 1 = 5 of each at first, and 3 more of object 0
    assert selection.gt_index[selection.positive].bincount().tolist() == [8, 1]


def test_negatives_are_taken_evenly_from_bins_of_iou():
    # largest IoU 0.6 (a positive): three bins of 0.2; six negatives wanted, two of each
    overlaps = [0.6] + [0.1] * 20 + [0.3] * 3 + [0.5] * 2 + [0.0] * 9
    given = assignment([0] + [-1] * 34, overlaps)
    sampler = CombinedSampler(7, 0.25, neg_sampler=IoUBalancedNegSampler(floor_thr=-1, num_bins=3))
    for seed in range(5):
        selection = sampler(given, generator=torch.Generator().manual_seed(seed))
        taken = given.overlaps.gather(1, selection.candidate)[selection.negative]
        assert sorted(taken.tolist()) == pytest.approx([0.1, 0.1, 0.3, 0.3, 0.5, 0.5])


def test_a_share_of_the_negatives_comes_from_below_the_floor():
    overlaps = [0.05] * 10 + [0.2] * 10
    sampler = CombinedSampler(8, 0.25, neg_sampler=IoUBalancedNegSampler(floor_thr=0.1, floor_fraction=0.5))
    selection = sampler(assignment([-1] * 20, overlaps), generator=torch.Generator().manual_seed(0))
    assert selection.negative.sum() == 8
    taken = torch.tensor(overlaps)[selection.candidate[0]]
    assert (taken < 0.1).sum() == 4


def test_without_enough_of_a_kind_all_negatives_are_taken():
    sampler = CombinedSampler(8, 0.25, neg_sampler=IoUBalancedNegSampler(floor_thr=0.1, floor_fraction=0.5))
    selection = sampler(assignment([-1] * 5 + [-2], [0.2, 0.3, 0.2, 0.0, 0.05, 0.3]))
    assert sorted(selection.candidate[selection.negative].tolist()) == [0, 1, 2, 3, 4]


def test_without_candidates_nothing_is_taken():
    sampler = CombinedSampler(
        4, 0.5, pos_sampler=InstanceBalancedPosSampler(), neg_sampler=IoUBalancedNegSampler()
    )  # fmt: skip
    assert not sampler(assignment([-2, -2, -2])).valid.any()


def test_the_hardest_candidates_are_taken():
    hardness = torch.tensor([[0.1, 0.9, 0.5, 0.2, 0.8, 0.3]])
    selection = OHEMSampler(4, 0.5)(assignment([0, 1, 0, -1, -1, -1]), hardness=hardness)
    assert selection.candidate[0].tolist() == [1, 2, 4, 5]
    assert selection.gt_index[0].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("changes", [{"floor_thr": -2}, {"floor_fraction": 1.5}, {"num_bins": 0}])
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        IoUBalancedNegSampler(**changes)
