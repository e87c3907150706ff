"""Preprocess: channel order, normalisation, padding."""

import pytest
import torch

from fastdet.models import Preprocess


def test_channels_are_swapped_before_they_are_normalised() -> None:
    pixels = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)  # blue, green, red
    assert Preprocess((30, 20, 0), (1, 1, 2), to_rgb=True)(pixels).flatten().tolist() == [0, 0, 5]
    assert Preprocess((10, 20, 0), (1, 1, 2))(pixels).flatten().tolist() == [0, 0, 15]


def test_padding_is_zero_after_normalising() -> None:
    pixels = torch.zeros(2, 3, 3, 4)
    normalised = Preprocess((1, 1, 1))(pixels, torch.tensor([[2, 4], [3, 1]]))
    assert normalised[0, 0].tolist() == [[-1] * 4, [-1] * 4, [0] * 4]
    assert normalised[1, 2].tolist() == [[-1, 0, 0, 0]] * 3
    assert (Preprocess((1, 1, 1))(pixels) == -1).all()


def test_padded_sizes_are_multiples_of_the_divisor() -> None:
    sizes = torch.tensor([[1, 32], [33, 64]])
    assert Preprocess(pad_divisor=32).padded_sizes(sizes).tolist() == [[32, 32], [64, 64]]
    assert Preprocess().padded_sizes(sizes).tolist() == sizes.tolist()


def test_training_batches_may_have_a_least_size() -> None:
    preprocess = Preprocess(pad_divisor=2, train_size=(8, 4))
    pixels, sizes = torch.ones(1, 3, 4, 6), torch.tensor([[4, 6]])
    assert preprocess(pixels, sizes).shape == (1, 3, 8, 6)
    assert preprocess(pixels, sizes).sum() == pixels.sum()
    assert preprocess.padded_sizes(sizes).tolist() == [[8, 6]]
    preprocess.eval()
    assert preprocess(pixels, sizes).shape == (1, 3, 4, 6)
    assert preprocess.padded_sizes(sizes).tolist() == [[4, 6]]


def test_mean_and_std_are_no_part_of_checkpoints() -> None:
    assert Preprocess().state_dict() == {}


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="mean needs three numbers"):
        Preprocess((1, 2))
    with pytest.raises(ValueError, match="pad_divisor"):
        Preprocess(pad_divisor=0)
