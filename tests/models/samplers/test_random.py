"""Samplers: which slots are filled with what."""

import pytest
import torch

from fastdet.models.assigners import Assignment
from fastdet.models.samplers import PseudoSampler, RandomSampler


def assignment(*rows: list[int]) -> Assignment:
    gt_index = torch.tensor(rows)
    return Assignment(gt_index, torch.zeros(gt_index.shape))


def test_index_order_takes_the_first_positives_then_the_first_negatives() -> None:
    sampler = RandomSampler(4, 0.5, order="index")
    selection = sampler(assignment([-1, 3, -2, 0, -1, 2, -1]))
    assert selection.candidate is not None
    assert selection.candidate.tolist() == [[1, 3, 0, 4]]
    assert selection.gt_index.tolist() == [[3, 0, 0, 0]]
    assert selection.positive.tolist() == [[True, True, False, False]]
    assert selection.negative.tolist() == [[False, False, True, True]]
    assert selection.average == 4


def test_negatives_fill_up_where_positives_are_few_and_padding_is_masked() -> None:
    selection = RandomSampler(6, 0.5, order="index")(assignment([-1, 7, -2, -1], [-1, -1, -1, -2]))
    assert selection.candidate is not None
    assert selection.candidate.tolist() == [[1, 0, 3, 0, 0, 0], [0, 1, 2, 0, 0, 0]]
    assert selection.valid.tolist() == [[True] * 3 + [False] * 3] * 2
    assert selection.positive.sum(1).tolist() == [1, 0]
    assert selection.average == (1 + 2) + (1 + 3)  # no positive counts as one


def test_negatives_may_be_bounded_by_the_positives() -> None:
    selection = RandomSampler(6, 0.5, neg_pos_ub=2, order="index")(assignment([-1, 7, -1, -1, -1], [-1] * 5))
    assert selection.negative.sum(1).tolist() == [2, 2]


def test_random_order_is_the_generators_and_takes_only_fitting_candidates() -> None:
    found = assignment([-1, 0, -2, 1, -1, 2, -1, -2, 3, -1] * 10)
    sampler = RandomSampler(16, 0.25)
    first, again, other = (sampler(found, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first.candidate, again.candidate)
    assert not torch.equal(first.candidate, other.candidate)
    taken = found.gt_index.gather(1, first.candidate)
    assert (taken[first.positive] >= 0).all()
    assert (taken[first.negative] == -1).all()
    assert first.positive.sum() == 4
    assert first.negative.sum() == 12
    assert len(set(first.candidate[0].tolist())) == 16


def test_every_candidate_is_drawn_equally_often() -> None:
    sampler, generator = RandomSampler(2, 0.0), torch.Generator().manual_seed(0)
    hits = torch.zeros(8)
    for _ in range(400):
        hits[sampler(assignment([-1] * 8), generator=generator).candidate[0]] += 1
    # 800 draws over 8: mean 100, standard deviation about 9
    assert (hits - 100).abs().max() < 40


def test_take_gathers_values_of_images_and_shared_ones() -> None:
    selection = RandomSampler(2, 0.5, order="index")(assignment([-1, 0, -1], [0, -1, -1]))
    shared = torch.tensor([[10.0], [11.0], [12.0]])
    assert selection.take(shared)[..., 0].tolist() == [[11, 10], [10, 11]]
    own = torch.arange(6.0).reshape(2, 3, 1)
    assert selection.take(own)[..., 0].tolist() == [[1, 0], [3, 4]]


def test_pseudo_sampling_keeps_places_and_averages_over_positives() -> None:
    selection = PseudoSampler()(assignment([-1, 2, -2, 0], [-1, -1, -1, -2]))
    assert selection.candidate is None
    assert selection.gt_index.tolist() == [[0, 2, 0, 0], [0, 0, 0, 0]]
    assert selection.negative.tolist() == [[True, False, False, False], [True, True, True, False]]
    assert selection.average == 2 + 1
    values = torch.rand(2, 4, 3)
    assert selection.take(values) is values


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="pos_fraction"):
        RandomSampler(4, 1.5)
    with pytest.raises(ValueError, match="order"):
        RandomSampler(4, 0.5, order="first")
    with pytest.raises(ValueError, match="num"):
        RandomSampler(0, 0.5)
