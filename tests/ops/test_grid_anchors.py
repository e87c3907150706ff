"""grid_anchors: order and values."""

import pytest
import torch

from fastdet.ops import grid_anchors, reference
from fastdet.ops.grid_anchors import _of_open_sizes


def test_order_is_level_row_column_base(device: str) -> None:
    base = torch.tensor([[[-1.0, -2, 1, 2], [-2, -1, 2, 1]], [[-8.0, -8, 8, 8], [0, 0, 1, 1]]], device=device)
    anchors = grid_anchors(base, [(1, 2), (2, 1)], [(4, 5), (8, 16)])
    assert anchors.tolist() == [
        [-1, -2, 1, 2],
        [-2, -1, 2, 1],
        [3, -2, 5, 2],
        [2, -1, 6, 1],
        [-8, -8, 8, 8],
        [0, 0, 1, 1],
        [-8, 8, 8, 24],
        [0, 16, 1, 17],
    ]


def test_equals_the_reference_bit_for_bit(device: str) -> None:
    base = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(0)) * 50
    sizes, strides = [(13, 7), (5, 4), (1, 1)], [(8, 8), (16.5, 16), (33, 0.1)]
    assert torch.equal(
        grid_anchors(base.to(device), sizes, strides).cpu(), reference.grid_anchors(base, sizes, strides)
    )


def test_many_anchors(device: str) -> None:
    base = torch.tensor([[[-16.0, -16, 16, 16]]], device=device)
    anchors = grid_anchors(base, [(500, 701)], [(4, 4)])
    assert anchors.shape == (350_500, 4)
    assert anchors[-1].tolist() == [700 * 4 - 16, 499 * 4 - 16, 700 * 4 + 16, 499 * 4 + 16]


def test_levels_without_cells(device: str) -> None:
    base = torch.ones(2, 3, 4, device=device)
    assert grid_anchors(base, [(0, 5), (1, 1)], [(4, 4), (8, 8)]).shape == (3, 4)
    assert grid_anchors(base[:0], [], []).shape == (0, 4)
    assert grid_anchors(base[:, :0], [(2, 2), (1, 1)], [(4, 4), (8, 8)]).shape == (0, 4)


def test_strided_base_anchors(device: str) -> None:
    base = torch.arange(32.0, device=device).view(2, 4, 4)
    view = base.transpose(0, 1)[:2]
    expected = grid_anchors(view.contiguous(), [(2, 2), (1, 3)], [(4, 4), (8, 8)])
    assert torch.equal(grid_anchors(view, [(2, 2), (1, 3)], [(4, 4), (8, 8)]), expected)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"`base_anchors` must have shape \[\*, \*, 4\], got \[3, 4\]"):
        grid_anchors(torch.zeros(3, 4), [(1, 1)], [(4, 4)])
    with pytest.raises(ValueError, match="`strides` must hold one pair for each of the 1 levels"):
        grid_anchors(torch.zeros(1, 3, 4), [(1, 1)], [(4, 4), (8, 8)])


def test_ranges_of_an_exported_graph_are_the_kernels(device: str) -> None:
    base = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).to(device) * 50
    sizes, strides = [(5, 7), (1, 4)], [(8.0, 8.0), (16.0, 33.0)]
    assert torch.equal(_of_open_sizes(base, sizes, strides), grid_anchors(base, sizes, strides))
