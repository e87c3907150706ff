"""Patches, windows and their attention, stochastic depth: hand-computed values and properties."""

import pytest
import torch
from torch import nn

from fastdet.models.layers.norm import layer_norm, layer_norm_2d
from fastdet.models.layers.patches import PatchEmbedding, PatchMerging
from fastdet.models.layers.stochastic_depth import depth_rates, drop_path
from fastdet.models.layers.window_attention import (
    FOREIGN,
    ShiftedWindows,
    WindowAttention,
    foreign_mask,
    from_windows,
    relative_positions,
    to_windows,
)


def test_windows_are_taken_row_by_row_and_put_back() -> None:
    x = torch.arange(24.0).view(1, 4, 6, 1)
    windows = to_windows(x, 2)
    assert windows.shape == (1, 6, 4, 1)
    assert windows[0, 1, :, 0].tolist() == [2, 3, 8, 9]
    torch.testing.assert_close(from_windows(windows, 2, 4, 6), x)


def test_relative_positions_count_rows_then_columns() -> None:
    assert relative_positions(2).tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def test_cells_that_met_by_rolling_are_foreign() -> None:
    mask = foreign_mask(4, 4, 2, 1, torch.zeros(1))
    assert mask.shape == (4, 4, 4)
    assert mask[0].abs().sum() == 0  # a window from the middle
    row = [0.0, FOREIGN, 0.0, FOREIGN]
    assert mask[1].tolist() == [row, row[::-1], row, row[::-1]]  # its right half came from the left edge
    assert (mask[3] == 0).sum() == 4  # the corner: every cell is from elsewhere


def test_attention_is_that_of_pytorch_with_the_bias_of_relative_positions() -> None:
    torch.manual_seed(0)
    layer = WindowAttention(8, 2, 2)
    nn.init.normal_(layer.relative_position_bias_table)
    other = nn.MultiheadAttention(8, 2, batch_first=True)
    other.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.proj.weight,
            "out_proj.bias": layer.proj.bias,
        }
    )
    windows = torch.rand(3, 1, 4, 8)
    bias = layer.relative_position_bias_table[layer.relative_position_index].permute(2, 0, 1).repeat(3, 1, 1)
    expected, _ = other(windows[:, 0], windows[:, 0], windows[:, 0], attn_mask=bias)
    torch.testing.assert_close(layer(windows)[:, 0], expected)


def test_shifted_windows_see_their_own_region_alone() -> None:
    torch.manual_seed(0)
    layer = ShiftedWindows(WindowAttention(4, 1, 2), 2, 1)
    x = torch.rand(1, 4, 4, 4)
    changed = x.clone()
    changed[:, 0, 0] += 1
    difference = (layer(changed) - layer(x)).abs().amax((0, 3)) > 1e-6
    assert difference.nonzero().tolist() == [[0, 0]]  # the corner's window holds no other cell of its region
    changed = x.clone()
    changed[:, 1, 1] += 1
    difference = (layer(changed) - layer(x)).abs().amax((0, 3)) > 1e-6
    assert difference.nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_maps_of_any_size_fit_into_windows() -> None:
    layer = ShiftedWindows(WindowAttention(4, 2, 7), 7, 3)
    assert layer(torch.rand(2, 5, 9, 4)).shape == (2, 5, 9, 4)


def test_merging_takes_channels_before_cells() -> None:
    layer = PatchMerging(2, 3, norm=None)
    x = torch.arange(8.0).view(1, 2, 2, 2)  # channel 0: 0, 2, 4, 6; channel 1: 1, 3, 5, 7
    layer.reduction = nn.Identity()  # type: ignore[assignment]
    assert layer(x).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    odd = PatchMerging(2, 3, norm=layer_norm())(torch.rand(1, 3, 5, 2))
    assert odd.shape == (1, 2, 3, 3)


def test_patches_are_filled_up_at_the_corner() -> None:
    patches = PatchEmbedding(1, 1, 4, 4, norm=None)
    nn.init.ones_(patches.projection.weight)
    nn.init.zeros_(patches.projection.bias)
    assert patches(torch.ones(1, 1, 5, 4))[0, :, :, 0].tolist() == [[16], [4]]
    overlapping = PatchEmbedding(3, 8, 7, 4, padding=3, norm=layer_norm())
    assert overlapping(torch.rand(1, 3, 32, 64)).shape == (1, 8, 16, 8)


def test_a_norm_of_maps_is_a_norm_of_their_cells() -> None:
    x = torch.rand(2, 4, 3, 3)
    expected = nn.functional.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)
    torch.testing.assert_close(layer_norm_2d()(4)(x), expected)


def test_branches_are_left_out_for_whole_images() -> None:
    torch.manual_seed(0)
    layer = drop_path(0.5)
    out = layer(torch.ones(64, 2, 3))
    assert set(out.flatten().tolist()) == {0.0, 2.0}
    assert (out == out[:, :1, :1]).all()
    assert layer.eval()(torch.ones(2, 1)).tolist() == [[1], [1]]
    assert isinstance(drop_path(0.0), nn.Identity)
    assert depth_rates(0.2, 3) == pytest.approx([0, 0.1, 0.2])
    assert depth_rates(0.2, 1) == [0]
