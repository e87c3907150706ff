"""FPN: levels, extra levels, hand-computed sums."""

import pytest
import torch
from torch import Tensor, nn

from fastdet.models.layers.norm import batch_norm
from fastdet.models.necks import FPN


def levels(*widths: int, size: int = 16) -> list[Tensor]:
    return [torch.rand(1, width, size >> i, size >> i) for i, width in enumerate(widths)]


def identity(fpn: FPN) -> None:
    """Every convolution passes its single channel through (a 3x3 one its centre)."""
    for conv in fpn.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.zeros_(conv.weight)
            conv.weight.data[..., conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1


def test_coarser_levels_are_added_to_finer_ones() -> None:
    fpn = FPN([1, 1], 1, 2)
    identity(fpn)
    fine, coarse = torch.arange(4.0).view(1, 1, 2, 2), torch.tensor([[[[10.0]]]])
    first, second = fpn([fine, coarse])
    assert first.flatten().tolist() == [10, 11, 12, 13]
    assert second.flatten().tolist() == [10]


def test_levels_of_odd_size_are_met_exactly() -> None:
    outs = FPN([2, 2], 4, 2)([torch.rand(1, 2, 7, 5), torch.rand(1, 2, 4, 3)])
    assert [tuple(o.shape[2:]) for o in outs] == [(7, 5), (4, 3)]


def test_extra_levels_without_convolutions_skip_cells() -> None:
    fpn = FPN([2, 3], 4, 4)
    outs = fpn(levels(2, 3))
    assert [o.shape[2] for o in outs] == [16, 8, 4, 2]
    assert torch.equal(outs[2], outs[1][:, :, ::2, ::2])
    assert len(fpn.fpn_convs) == 2


@pytest.mark.parametrize(("source", "width"), [("on_input", 3), (True, 3), ("on_lateral", 4), ("on_output", 4)])
def test_extra_convolutions_start_where_they_are_told(source: bool | str, width: int) -> None:
    fpn = FPN([2, 3], 4, 4, add_extra_convs=source)  # type: ignore[arg-type]
    outs = fpn(levels(2, 3))
    assert [o.shape[2] for o in outs] == [16, 8, 4, 2]
    assert fpn.get_submodule("fpn_convs.2.conv").in_channels == width
    assert fpn.get_submodule("fpn_convs.3.conv").in_channels == 4


def test_a_relu_may_stand_before_later_extra_convolutions() -> None:
    fpn = FPN([1], 1, 3, add_extra_convs="on_input", relu_before_extra_convs=True)
    identity(fpn)
    outs = fpn([torch.full((1, 1, 4, 4), -1.0)])
    assert outs[1].unique().tolist() == [-1]  # the first extra level sees the input as it is
    assert outs[2].unique().tolist() == [0]


def test_a_start_and_end_level_leave_levels_out() -> None:
    fpn = FPN([2, 3, 4, 5], 6, 2, start_level=1, end_level=2)
    outs = fpn(levels(2, 3, 4, 5))
    assert [o.shape[2] for o in outs] == [8, 4]
    assert fpn.get_submodule("lateral_convs.0.conv").in_channels == 3


def test_norm_and_activation_reach_every_convolution() -> None:
    fpn = FPN([2, 3], 4, 3, add_extra_convs="on_output", norm=batch_norm(), act=True, no_norm_on_lateral=True)
    keys = set(fpn.state_dict())
    assert {"lateral_convs.0.conv.bias", "fpn_convs.0.bn.weight", "fpn_convs.2.bn.weight"} <= keys
    assert "fpn_convs.0.conv.bias" not in keys
    assert all(o.min() >= 0 for o in fpn(levels(2, 3)))


def test_the_upsampling_may_have_a_fixed_scale() -> None:
    outs = FPN([2, 2], 4, 2, upsample_scale=2, upsample_mode="bilinear")(levels(2, 2))
    assert outs[0].shape == (1, 4, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_outs": 1}, "num_outs cannot be 1"),
        ({"num_outs": 3, "end_level": 0}, "num_outs cannot be 3"),
        ({"num_outs": 2, "start_level": 2}, "start_level"),
        ({"num_outs": 3, "add_extra_convs": "on_top"}, "on_top"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FPN([2, 2], 4, **arguments)  # type: ignore[arg-type]


def test_another_number_of_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="built for 2 levels and was given 1"):
        FPN([2, 2], 4, 2)(levels(2))
