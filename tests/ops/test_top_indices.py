"""The largest scores, equal ones by index."""

import pytest
import torch

from fastdet.ops import top_indices


def test_equal_scores_go_to_the_lower_index() -> None:
    scores = torch.tensor([[0.5, 1.0, 0.0, 0.5, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0, 0.0, 0.25]])
    assert top_indices(scores, 4).tolist() == [[1, 4, 0, 3], [5, 0, 1, 2]]
    many = torch.zeros(1, 100_000)
    assert top_indices(many, 50)[0].tolist() == list(range(50))


def test_refused_scores_come_after_zero() -> None:
    assert top_indices(torch.tensor([[-1.0, 0.0, -1.0, 1e-40]]), 2).tolist() == [[3, 1]]


def test_more_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="number"):
        top_indices(torch.zeros(1, 3), 4)


def test_op_is_registered_well() -> None:
    torch.library.opcheck(torch.ops.fastdet.top_indices.default, (torch.rand(2, 9), 4))
