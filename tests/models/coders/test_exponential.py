"""ExponentialBBoxCoder: values by hand, limits, the border."""

import math

import pytest
import torch

from fastdet.models.coders import ExponentialBBoxCoder

SQUARE = torch.tensor([[0.0, 0, 16, 16]])


def test_distances_are_logarithms_of_widths() -> None:
    coder = ExponentialBBoxCoder()
    box = torch.tensor([[0.0, -8, 40, 24]])
    deltas = coder.encode(SQUARE, box)
    assert deltas[0].tolist() == pytest.approx([math.log(0.5), 0, math.log(2), 0])
    assert coder.decode(SQUARE, deltas)[0].tolist() == pytest.approx(box[0].tolist())


def test_targets_lie_within_a_sixteenth_and_sixteen_times() -> None:
    deltas = ExponentialBBoxCoder().encode(SQUARE, torch.tensor([[8.0, 8, 999, 8]]))
    assert deltas[0].tolist() == pytest.approx([-math.log(16), -math.log(16), math.log(16), -math.log(16)])


def test_boxes_end_a_pixel_before_the_border() -> None:
    boxes = ExponentialBBoxCoder().decode(SQUARE[None], torch.full((1, 1, 4), 5.0), torch.tensor([[20, 30]]))
    assert boxes[0, 0].tolist() == [0, 0, 29, 19]
