"""SSD's anchors: sizes of the releases, shapes and their order, levels with different numbers of anchors."""

import math

import pytest
import torch

from fastdet.models.priors import SSDAnchorGenerator

RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
STRIDES = (8, 16, 32, 64, 100, 300)


def test_a_cell_has_a_square_a_larger_square_and_other_shapes() -> None:
    priors = SSDAnchorGenerator([10], [[4]], min_sizes=[4], max_sizes=[16])([(1, 1)])
    sizes = (priors[:, 2:] - priors[:, :2]).tolist()
    assert sizes == [[4, 4], [8, 8], [8, 2], [2, 8]]  # mean of 4 and 16; a ratio of 1/4, then of 4
    assert ((priors[:, :2] + priors[:, 2:]) / 2).tolist() == [[5, 5]] * 4


def test_the_sizes_are_those_of_the_release() -> None:
    generator = SSDAnchorGenerator(STRIDES, RATIOS)
    assert generator.cell_priors == (4, 6, 6, 6, 4, 4)
    first = [base[0] for base in generator.base_anchors.split(generator.cell_priors)]
    assert [float(b[2] - b[0]) for b in first] == [21, 45, 99, 153, 207, 261]
    second = [base[1] for base in generator.base_anchors.split(generator.cell_priors)]
    larger = [math.sqrt(a * b) for a, b in ((21, 45), (45, 99), (99, 153), (153, 207), (207, 261), (261, 315))]
    assert [float(b[2] - b[0]) for b in second] == pytest.approx(larger)


def test_the_releases_set_the_smallest_size_apart() -> None:
    smallest = SSDAnchorGenerator(STRIDES, RATIOS, basesize_ratio_range=(0.2, 0.9)).base_anchors[0]
    assert float(smallest[2] - smallest[0]) == 30
    ssd512 = SSDAnchorGenerator((*STRIDES, 512), (*RATIOS, (2,)), input_size=512, basesize_ratio_range=(0.1, 0.9))
    assert float(ssd512.base_anchors[0, 2] - ssd512.base_anchors[0, 0]) == 512 * 4 // 100


def test_levels_follow_each_other_in_rows() -> None:
    priors = SSDAnchorGenerator([4, 8], [[2], [2, 3]], min_sizes=[4, 8], max_sizes=[8, 16])([(1, 2), (1, 1)])
    assert priors.shape == (2 * 4 + 6, 4)
    centers = ((priors[:, :2] + priors[:, 2:]) / 2).tolist()
    assert centers == [[2, 2]] * 4 + [[6, 2]] * 4 + [[4, 4]] * 6


def test_cells_in_the_padding_are_not_valid() -> None:
    generator = SSDAnchorGenerator([4, 8], [[2], [2]], min_sizes=[4, 8], max_sizes=[8, 16])
    valid = generator.valid([(1, 2), (1, 1)], torch.tensor([[4, 8], [4, 4]]))
    assert valid.int().tolist() == [[1] * 12, [1] * 4 + [0] * 4 + [1] * 4]


def test_sizes_that_nobody_set_must_be_given() -> None:
    with pytest.raises(ValueError, match="input_size 400"):
        SSDAnchorGenerator(STRIDES, RATIOS, input_size=400)
    with pytest.raises(ValueError, match="one entry of every list"):
        SSDAnchorGenerator([4], [[2]], min_sizes=[4, 8], max_sizes=[8])
    with pytest.raises(ValueError, match="2 strides for 1 level"):
        SSDAnchorGenerator([4, 8], [[2], [2]], min_sizes=[4, 8], max_sizes=[8, 16])([(1, 1)])


def test_legacy_anchors_include_their_last_pixel() -> None:
    """The first square has 21 pixels around 3.5: -6.5 to 13.5, rounded to even."""
    assert SSDAnchorGenerator(STRIDES, RATIOS, legacy=True).base_anchors[0].tolist() == [-6, -6, 14, 14]
