"""CellBBoxCoder: hand-computed boxes and deltas."""

import math

import pytest
import torch

from fastdet.models.coders import CellBBoxCoder

CELL = torch.tensor([[8.0, 16.0, 16.0, 24.0]])


def test_centres_run_from_the_cells_corner_and_sizes_are_logarithms() -> None:
    deltas = torch.tensor([[0.5, 1.0, math.log(2), 0.0]])
    boxes = torch.tensor([[4.0, 20, 20, 28]])
    assert CellBBoxCoder().decode(CELL, deltas)[0].tolist() == pytest.approx([4, 20, 20, 28])
    assert CellBBoxCoder().encode(CELL, boxes)[0].tolist() == pytest.approx(deltas[0].tolist())


def test_empty_boxes_have_finite_deltas() -> None:
    assert CellBBoxCoder().encode(CELL, torch.zeros(1, 4)).isfinite().all()
