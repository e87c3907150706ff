"""RFP, DyHead, FPG, FPN_CARAFE: levels, hand-computed values, keys."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fastdet.models.layers.norm import batch_norm
from fastdet.models.necks import FPG, FPN, RFP, CarafeFPN, DyHead
from fastdet.models.necks.dyhead import reread


def levels(*widths: int, size: int = 16) -> list[Tensor]:
    return [torch.rand(1, width, size >> i, size >> i) for i, width in enumerate(widths)]


class Echo(nn.Module):
    """A backbone that gives what it was fed with."""

    def forward(self, image: Tensor, feedback: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.image = image
        return feedback[:2]


def test_a_pyramid_is_mixed_evenly_with_what_its_feedback_gives() -> None:
    torch.manual_seed(0)
    echo = Echo()
    neck = RFP([8, 8], 8, 3, rfp_modules=(echo,), aspp_out_channels=2)
    image, maps = torch.rand(1, 3, 64, 64), levels(8, 8)
    plain = FPN.forward(neck, maps)
    fed = (plain[0], neck.rfp_aspp(plain[1]))
    again = FPN.forward(neck, fed)
    outs = neck([image, *maps])
    assert echo.image is image
    for out, old, new in zip(outs, plain, again, strict=True):
        torch.testing.assert_close(out, (old + new) / 2)
    assert {"rfp_aspp.aspp.3.bias", "rfp_weight.weight", "lateral_convs.0.conv.weight"} <= set(neck.state_dict())
    with pytest.raises(ValueError, match="the last one 1"):
        RFP([8, 8], 8, 3, rfp_modules=(), aspp_out_channels=2, aspp_dilations=(1, 3))


def test_the_last_branch_of_atrous_pooling_sees_the_mean() -> None:
    neck = RFP([4], 4, 1, rfp_modules=(), aspp_out_channels=2)
    out = neck.rfp_aspp(torch.rand(1, 4, 8, 8))
    assert out.shape == (1, 8, 8, 8)
    assert (out[:, 6:] == out[:, 6:, :1, :1]).all()
    assert [tuple(conv.kernel_size) for conv in neck.rfp_aspp.aspp] == [(1, 1), (3, 3), (3, 3), (1, 1)]


def test_fine_offsets_are_reread_in_memory_order() -> None:
    fine = torch.arange(32.0).view(1, 2, 4, 4)
    assert reread(fine, torch.zeros(1, 1, 2, 2)).flatten().tolist() == list(range(8))
    assert reread(fine.to(memory_format=torch.channels_last), torch.zeros(1, 1, 2, 2)).flatten()[7] == 7


def test_dynamic_heads_keep_levels_of_odd_sizes() -> None:
    torch.manual_seed(0)
    neck = DyHead(8, 16, num_blocks=2)
    maps = [torch.rand(2, 8, h, w) for h, w in ((13, 18), (7, 9), (4, 5))]
    assert [tuple(o.shape[1:]) for o in neck(maps)] == [(16, 13, 18), (16, 7, 9), (16, 4, 5)]
    keys = set(neck.state_dict())
    assert {"dyhead_blocks.1.spatial_conv_low.norm.bias", "dyhead_blocks.0.scale_attn_module.1.weight"} <= keys
    assert {"dyhead_blocks.0.task_attn_module.conv2.conv.bias", "dyhead_blocks.0.spatial_conv_mid.conv.weight"} <= keys
    assert neck.dyhead_blocks[0].spatial_conv_offset.weight.abs().sum() == 0
    assert DyHead(8, 16, num_blocks=1, zero_init_offset=False).dyhead_blocks[0].spatial_conv_offset.weight.std() > 0


def test_new_offsets_read_a_plain_convolution_at_half_strength() -> None:
    torch.manual_seed(0)
    block = DyHead(16, 16, num_blocks=1).dyhead_blocks[0]
    x = torch.rand(1, 16, 4, 4)
    mid = block.spatial_conv_mid
    half = mid.norm(nn.functional.conv2d(x, mid.conv.weight, padding=1) / 2)
    torch.testing.assert_close(block([x])[0], block.task_attn_module(half * block.scale_attn_module(half)))


def passing(neck: nn.Module) -> None:
    """Every convolution passes its single channel through (a 3x3 one its centre)."""
    for conv in neck.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.zeros_(conv.weight)
            conv.weight.data[..., conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1


def test_a_grid_sums_what_its_neighbours_give() -> None:
    neck = FPG([1, 1], 1, 2, stack_times=1, skip_inds=[(), ()])
    passing(neck)
    fine, coarse = torch.arange(4.0).view(1, 1, 2, 2), torch.tensor([[[[10.0]]]])
    first, second = neck([fine, coarse])
    assert first.flatten().tolist() == [10, 12, 14, 16]  # itself twice, and the coarser level
    assert second.flatten().tolist() == [30]  # itself twice, and the finer level's new first cell


def test_skipped_pyramids_pass_levels_on() -> None:
    neck = FPG([4, 8], 6, 3, stack_times=2, skip_inds=[(0, 1), (0,), ()], inter_channels=4, norm=batch_norm())
    assert [tuple(o.shape[1:]) for o in neck(levels(4, 8))] == [(6, 16, 16), (6, 8, 8), (6, 4, 4)]
    keys = set(neck.state_dict())
    assert not any(k.startswith(("fpn_transitions.0.0", "fpn_transitions.0.1", "fpn_transitions.1.0")) for k in keys)
    assert {"fpn_transitions.0.2.same_up.bn.weight", "output_transition.2.conv_out.conv.bias"} <= keys
    assert {"fpn_transitions.1.1.across_down.conv.conv.weight", "lateral_convs.1.bias"} <= keys
    assert "fpn_transitions.0.2.across_down.conv.conv.weight" not in keys
    assert not any("extra" in k for k in keys)
    convolved = FPG([4, 8], 6, 3, stack_times=1, skip_inds=[()] * 3, add_extra_convs=True)
    assert "extra_downsamples.0.weight" in convolved.state_dict()
    with pytest.raises(ValueError, match="skip_inds"):
        FPG([4], 4, 1, stack_times=1, skip_inds=[])
    with pytest.raises(ValueError, match="cannot give"):
        FPG([4, 4], 4, 1, stack_times=1, skip_inds=[()])
    with pytest.raises(ValueError, match="built for 2 levels"):
        neck(levels(4))


def test_carafe_pyramids_add_upsampled_levels() -> None:
    neck = CarafeFPN([1, 1], 1, 3)
    passing(neck)
    for upsample in neck.upsample_modules:
        nn.init.zeros_(upsample.content_encoder.weight)  # all kernels are means over 25 cells
    fine, coarse = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 2, 2), 25.0)
    first, second, third = neck([fine, coarse])
    assert third.flatten().tolist() == [25]
    assert second.flatten().tolist() == pytest.approx([26] * 4)  # 25 of one cell, over 25
    assert first.flatten().tolist() == pytest.approx([4 * 26 / 25] * 16)


def test_carafe_pyramids_cut_what_is_too_large() -> None:
    neck = CarafeFPN([2, 4, 8], 4, 4, start_level=1, norm=batch_norm(), act=True)
    maps = [torch.rand(1, 2, 26, 18), torch.rand(1, 4, 13, 9), torch.rand(1, 8, 7, 5)]
    assert [tuple(o.shape[1:]) for o in neck(maps)] == [(4, 13, 9), (4, 7, 5), (4, 4, 3), (4, 2, 2)]
    assert neck.state_dict()["lateral_convs.2.conv.weight"].shape == (4, 8, 3, 3)
    assert neck.state_dict()["lateral_convs.3.conv.weight"].shape == (4, 4, 3, 3)
    with pytest.raises(ValueError, match="built for 3 levels"):
        neck(maps[:2])
    with pytest.raises(ValueError, match="cannot give 1"):
        CarafeFPN([2, 4], 4, 1)


@pytest.mark.parametrize("make", [lambda: DyHead(16, 16, num_blocks=1), lambda: CarafeFPN([16, 16, 16], 4, 4)])
def test_no_shape_depends_on_data(make) -> None:
    with FakeTensorMode():
        outs = make()([torch.rand(2, 16, h, w) for h, w in ((13, 18), (7, 9), (4, 5))])
        sum(out.sum() for out in outs).backward()
