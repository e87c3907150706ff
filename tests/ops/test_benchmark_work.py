"""What the workloads need at least, by hand."""

import torch

from benchmarks.calibration import copy_rate
from benchmarks.work import attention_work, cell_pooling_work, convolution_work, pooling_work


def test_cells_under_several_rois_count_once() -> None:
    features = [torch.zeros(1, 10, 50, 50), torch.zeros(1, 10, 25, 25)]
    one = torch.tensor([[0, 8.0, 8, 16, 16]])  # cells 2 to 4 of each axis at stride 4: 9, with the neighbours'
    work = pooling_work(features, one, 7, 2)
    assert work.bytes == (9 + 49) * 10 * 4
    assert work.cached_bytes == 4 * 4 * 49 * 10 * 4
    assert pooling_work(features, one.expand(3, 5), 7, 2).bytes == (9 + 3 * 49) * 10 * 4


def test_a_gradient_takes_two_more_products() -> None:
    x, weight = torch.zeros(1, 8, 5, 6), torch.zeros(16, 8, 3, 3)
    offset, mask = torch.zeros(1, 18, 5, 6), torch.zeros(1, 9, 5, 6)
    assert convolution_work(x, offset, weight, mask, False).flops == 2 * 30 * 9 * 8 * 16
    assert convolution_work(x, offset, weight, mask, True).flops == 3 * 2 * 30 * 9 * 8 * 16


def test_attention_reads_four_cells_a_sample() -> None:
    value, locations, weights = torch.zeros(1, 30, 2, 8), torch.zeros(1, 5, 2, 2, 3, 2), torch.zeros(1, 5, 2, 2, 3)
    work = attention_work(value, locations, weights, False)
    assert work.bytes == 4 * (30 * 16 + 5 * 12 * 3 + 5 * 16)
    assert work.cached_bytes == 4 * 60 * 8 * 4


def test_copies_have_a_rate() -> None:
    assert copy_rate("cpu", 1 << 16, 2) > 1e6


def test_every_bin_of_cells_reads_its_own() -> None:
    feature = torch.zeros(1, 10, 50, 50)
    one = torch.tensor([[0, 16.0, 16, 80, 80]])  # cells 1 to 5 of each axis at stride 16; two bins of three cells
    work = cell_pooling_work(feature, one, 2, 16, False)
    assert work.bytes == 25 * 10 * 4 + 4 * 10 * 8
    assert work.cached_bytes == 36 * 10 * 4
    gradient = cell_pooling_work(feature, one, 2, 16, True)
    assert gradient.bytes == 2500 * 10 * 4 + 4 * 10 * 8
