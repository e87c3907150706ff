"""Batch normalisation that looks at valid rows only."""

import copy

import pytest
import torch
from torch import nn

from fastdet.models.layers.masked_norm import normalise_valid


def rows(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 3, 2, 2, generator=generator) * 3 + 1, torch.tensor([True, False, True, True, False, True])


@pytest.mark.parametrize("momentum", [0.1, None])
def test_output_gradient_and_running_statistics_are_those_of_the_valid_rows_alone(momentum):
    x, valid = rows()
    masked, plain = (nn.BatchNorm2d(3, momentum=momentum) for _ in range(2))
    for step in range(2):
        padded = (x + step).requires_grad_()
        alone = (x[valid] + step).requires_grad_()
        found, expected = normalise_valid(masked, padded, valid), plain(alone)
        torch.testing.assert_close(found[valid], expected)
        (found[valid] ** 3).sum().backward()
        (expected**3).sum().backward()
        torch.testing.assert_close(padded.grad[valid], alone.grad, atol=1e-4, rtol=1e-4)
        assert (padded.grad[~valid] == 0).all()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(masked.state_dict()[name], value)


def test_not_finite_values_in_padding_reach_nothing():
    x, valid = rows()
    norm = nn.BatchNorm2d(3)
    expected = normalise_valid(copy.deepcopy(norm), x, valid)[valid]
    x[1] = float("nan")
    torch.testing.assert_close(normalise_valid(norm, x, valid)[valid], expected)
    assert norm.running_mean.isfinite().all()


def test_without_a_valid_row_the_running_statistics_stay():
    x, valid = rows()
    norm = nn.BatchNorm2d(3)
    out = normalise_valid(norm, x, torch.zeros_like(valid))
    assert out.isfinite().all()
    assert norm.running_mean.tolist() == [0, 0, 0]
    assert norm.running_var.tolist() == [1, 1, 1]
    assert norm.num_batches_tracked == 0


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 3), nn.BatchNorm2d(3).eval()], ids=["group norm", "evaluating"])
def test_layers_without_batch_statistics_run_as_they_are(norm):
    x, valid = rows()
    assert torch.equal(normalise_valid(norm, x, valid), norm(x))


def test_linear_features_are_normalised_too():
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]])
    out = normalise_valid(nn.BatchNorm1d(2, eps=0.0), x, torch.tensor([True, True, False]))
    torch.testing.assert_close(out[:2], torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
