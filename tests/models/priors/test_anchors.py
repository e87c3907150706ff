"""Anchors: hand-computed shapes, order, validity."""

import math

import pytest
import torch

from fastdet.models.priors import AnchorGenerator


def test_ratios_keep_the_area_and_are_height_by_width() -> None:
    generator = AnchorGenerator([16], [0.25, 1.0], scales=[2])
    wide, square = generator.base_anchors[0].tolist()
    assert wide == [-32, -8, 32, 8]
    assert square == [-16, -16, 16, 16]
    assert generator.num_anchors == 2


def test_octaves_divide_the_doubling() -> None:
    base = AnchorGenerator([8], [1.0], octave_base_scale=4, scales_per_octave=2).base_anchors[0]
    sides = (base[:, 2] - base[:, 0]).tolist()
    assert sides == pytest.approx([32, 32 * math.sqrt(2)])


def test_anchors_go_by_ratio_then_scale_or_the_other_way() -> None:
    def widths(scale_major: bool) -> list[float]:
        base = AnchorGenerator([1], [1.0, 4.0], scales=[2, 8], scale_major=scale_major).base_anchors[0]
        return (base[:, 2] - base[:, 0]).tolist()

    assert widths(True) == [2, 8, 1, 4]
    assert widths(False) == [2, 1, 8, 4]


def test_centres_come_from_offset_or_by_hand() -> None:
    assert AnchorGenerator([8], [1.0], scales=[1], center_offset=0.5).base_anchors.tolist() == [[[0, 0, 8, 8]]]
    by_hand = AnchorGenerator([8], [1.0], scales=[1], centers=[(1.0, 2.0)], base_sizes=[4])
    assert by_hand.base_anchors.tolist() == [[[-1, 0, 3, 4]]]


def test_order_is_level_row_column_anchor() -> None:
    generator = AnchorGenerator([4, 8], [1.0], scales=[1, 2])
    anchors = generator(((1, 2), (1, 1)))
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres.tolist() == [[0, 0], [0, 0], [4, 0], [4, 0], [0, 0], [0, 0]]
    assert (anchors[:, 2] - anchors[:, 0]).tolist() == [4, 8, 4, 8, 8, 16]


def test_strides_may_differ_by_axis() -> None:
    anchors = AnchorGenerator([(4, 8)], [1.0], scales=[1])(((2, 2),))
    assert ((anchors[:, :2] + anchors[:, 2:]) / 2).tolist() == [[0, 0], [4, 0], [0, 8], [4, 8]]


def test_anchors_are_valid_where_their_cell_starts_inside_the_padded_image() -> None:
    generator = AnchorGenerator([4, 8], [1.0], scales=[1])
    sizes = ((2, 3), (1, 2))  # cells of a batch of 8 x 12 pixels (the second level rounds up)
    valid = generator.valid(sizes, torch.tensor([[8, 12], [4, 8], [5, 4]]))
    assert valid.tolist() == [
        [True] * 8,
        [True, True, False, False, False, False, True, False],
        [True, False, False, True, False, False, True, False],
    ]


def test_values_are_real_even_if_the_model_is_not() -> None:
    with torch.device("meta"):
        generator = AnchorGenerator([8], [1.0], scales=[1])
    assert generator.base_anchors.tolist() == [[[-4, -4, 4, 4]]]
    assert generator.state_dict() == {}


def test_legacy_anchors_include_their_last_pixel() -> None:
    """Nine pixels around the fifth; of 1:2 they are 12.7 wide and 6.4 high, corners rounded."""
    generator = AnchorGenerator([16], [1.0, 0.5], scales=[1.0], base_sizes=[9], center_offset=0.5, legacy=True)
    assert generator.base_anchors.tolist() == [[[0, 0, 8, 8], [-2, 1, 10, 7]]]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="needs scales"):
        AnchorGenerator([8], [1.0])
    with pytest.raises(ValueError, match="not both"):
        AnchorGenerator([8], [1.0], scales=[1], octave_base_scale=4)
    with pytest.raises(ValueError, match="base_sizes has 2 entries for 1 strides"):
        AnchorGenerator([8], [1.0], scales=[1], base_sizes=[1, 2])
    with pytest.raises(ValueError, match="center_offset"):
        AnchorGenerator([8], [1.0], scales=[1], center_offset=2)
    with pytest.raises(ValueError, match="have 2 levels"):
        AnchorGenerator([8], [1.0], scales=[1])(((1, 1), (1, 1)))
