"""PAFPN, NAS-FPN, BFP, HRFPN, SSD's and YOLO's necks, ChannelMapper, chains: levels, hand-computed values."""

import pytest
import torch
from torch import Tensor, nn

from fastdet.models.layers.init import truncated_normal_initialiser
from fastdet.models.layers.norm import batch_norm
from fastdet.models.necks import (
    BFP,
    FPN,
    HRFPN,
    NASFPN,
    PAFPN,
    ChannelMapper,
    SSDNeck,
    YOLOV3Neck,
    csp_next_pafpn,
    neck_chain,
    yolox_pafpn,
)
from fastdet.models.necks.merge import MergeCell, add, attend, resize
from fastdet.models.necks.ssd_neck import L2Norm


def levels(*widths: int, size: int = 16) -> list[Tensor]:
    return [torch.rand(1, width, size >> i, size >> i) for i, width in enumerate(widths)]


def sides(outs: tuple[Tensor, ...]) -> list[int]:
    return [o.shape[2] for o in outs]


def identity(neck: nn.Module) -> None:
    """Every convolution passes its single channel through (a 3x3 one its centre)."""
    for conv in neck.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.zeros_(conv.weight)
            conv.weight.data[..., conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1


def test_a_pafpn_adds_finer_levels_to_coarser_ones_too() -> None:
    neck = PAFPN([1, 1], 1, 2)
    identity(neck)
    fine, coarse = torch.arange(4.0).view(1, 1, 2, 2), torch.tensor([[[[10.0]]]])
    first, second = neck([fine, coarse])
    assert first.flatten().tolist() == [10, 11, 12, 13]
    assert second.flatten().tolist() == [20]  # its own 10, and the finer level's cell at 0, 0


def test_a_pafpn_extends_like_an_fpn() -> None:
    assert sides(PAFPN([2, 3], 4, 4)(levels(2, 3))) == [16, 8, 4, 2]
    neck = PAFPN([2, 3], 4, 4, add_extra_convs="on_output", relu_before_extra_convs=True, norm=batch_norm())
    assert sides(neck(levels(2, 3))) == [16, 8, 4, 2]
    assert {"downsample_convs.0.bn.weight", "pafpn_convs.0.conv.weight", "fpn_convs.3.conv.weight"} <= set(
        neck.state_dict()
    )
    with pytest.raises(ValueError, match="built for 2 levels"):
        neck(levels(2))


def test_necks_in_a_chain_read_each_other() -> None:
    chain = neck_chain([FPN([2, 3], 4, 3), BFP(4, 3, refine_level=1)])
    assert sides(chain(levels(2, 3))) == [16, 8, 4]
    assert all(k.startswith("0.") for k in chain.state_dict())


def test_levels_are_balanced_by_their_mean() -> None:
    fine = torch.tensor([[[[0.0, 4.0], [0.0, 0.0]]]])
    coarse = torch.tensor([[[[2.0]]]])
    first, second = BFP(1, 2, refine_level=1)([fine, coarse])
    assert first.flatten().tolist() == [3, 7, 3, 3]  # the mean of the largest fine cell and the coarse one is 3
    assert second.flatten().tolist() == [5]
    neck = BFP(4, 5, refine_type="non_local")
    outs = neck(levels(4, 4, 4, 4, 4, size=32))
    assert sides(outs) == [32, 16, 8, 4, 2]
    assert neck.refine.conv_out.conv.weight.abs().sum() == 0
    assert "refine.conv.weight" in BFP(4, 2, refine_level=0, refine_type="conv").state_dict()


def test_branches_become_pooled_levels() -> None:
    neck = HRFPN([1, 1], 1, num_outs=2)
    identity(neck)
    neck.reduction_conv.conv.weight.data.fill_(1.0)
    fine, coarse = torch.arange(4.0).view(1, 1, 2, 2), torch.tensor([[[[10.0]]]])
    first, second = neck([fine, coarse])
    assert first.flatten().tolist() == [10, 11, 12, 13]
    assert second.flatten().tolist() == [11.5]
    largest = HRFPN([1, 1], 1, num_outs=2, pooling_type="MAX", with_cp=True)
    largest.load_state_dict(neck.state_dict())
    assert largest([fine.requires_grad_(), coarse])[1].flatten().tolist() == [13]
    assert sides(HRFPN([2, 4], 8, stride=2, num_outs=3)(levels(2, 4))) == [8, 4, 2]


def test_maps_are_merged_at_one_size() -> None:
    small, large = torch.tensor([[[[1.0, 2.0]]]]), torch.arange(8.0).view(1, 1, 2, 4)
    assert resize(small, (2, 4))[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]
    assert resize(large, (1, 2)).flatten().tolist() == [5, 7]
    assert resize(torch.arange(1.0, 4.0).view(1, 1, 1, 3), (1, 2)).flatten().tolist() == [2, 3]  # a zero at the end
    assert add(small, small).flatten().tolist() == [2, 4]
    opened = torch.tensor(1.5).sigmoid()
    torch.testing.assert_close(attend(small, small), small + opened * small)
    assert MergeCell(add)(small, large, (1, 2)).flatten().tolist() == [6, 9]


def test_a_searched_pyramid_keeps_five_levels() -> None:
    neck = NASFPN([2, 3, 4], 4, 5, stack_times=2, norm=batch_norm())
    assert sides(neck(levels(2, 3, 4, size=64))) == [64, 32, 16, 8, 4]
    keys = set(neck.state_dict())
    assert {"fpn_stages.1.gp_64_4.out_conv.conv.bias", "extra_downsamples.1.0.bn.weight"} <= keys
    assert not any(k.startswith("fpn_stages.0.gp_43_5") for k in keys)
    with pytest.raises(ValueError, match="5 levels"):
        NASFPN([2, 3], 4, 4, stack_times=1)


def test_ssd_goes_on_with_ever_coarser_levels() -> None:
    neck = SSDNeck([4, 8], [4, 8, 8, 4], [2, 1], [1, 0], last_kernel_size=4)
    assert sides(neck(levels(4, 8, size=20))) == [20, 10, 5, 2]
    assert neck.l2_norm.weight.tolist() == [20.0] * 4
    light = SSDNeck(
        [4, 8],
        [4, 8, 8],
        [2],
        [1],
        l2_norm_scale=None,
        use_depthwise=True,
        norm=batch_norm(),
        act=nn.ReLU6,
        init=truncated_normal_initialiser(0.03),
    )
    assert {"extra_layers.0.0.bn.weight", "extra_layers.0.1.pointwise_conv.conv.weight"} <= set(light.state_dict())
    assert not any(k.startswith("l2_norm") for k in light.state_dict())
    with pytest.raises(ValueError, match="out_channels must be in_channels"):
        SSDNeck([4, 8], [4, 9, 8], [2], [1])
    with pytest.raises(ValueError, match="level_strides"):
        SSDNeck([4, 8], [4, 8, 8], [2, 2], [1])


def test_cells_get_the_length_of_the_scale() -> None:
    out = L2Norm(2, 10)(torch.tensor([[[[3.0]], [[4.0]]]], dtype=torch.float16))
    assert out.flatten().tolist() == [6, 8]
    assert out.dtype == torch.float16


def test_a_mapper_gives_every_level_the_same_width() -> None:
    neck = ChannelMapper([2, 3], 4, kernel_size=1, num_outs=4, norm=batch_norm(), act=False)
    outs = neck(levels(2, 3))
    assert [tuple(o.shape[1:3]) for o in outs] == [(4, 16), (4, 8), (4, 4), (4, 2)]
    assert neck.state_dict()["extra_convs.0.conv.weight"].shape == (4, 3, 3, 3)
    assert "convs.0.conv.bias" not in neck.state_dict()
    assert "convs.0.conv.bias" in ChannelMapper([2], 4, norm=batch_norm(), bias=True).state_dict()
    assert not any("extra" in k for k in ChannelMapper([2], 4).state_dict())


def test_csp_pyramids_keep_their_levels() -> None:
    neck = yolox_pafpn([4, 8, 16], 6, num_csp_blocks=1)
    assert [tuple(o.shape[1:3]) for o in neck(levels(4, 8, 16))] == [(6, 16), (6, 8), (6, 4)]
    shapes = {k: tuple(v.shape) for k, v in neck.state_dict().items() if k.endswith("conv.weight")}
    assert shapes["reduce_layers.0.conv.weight"] == (8, 16, 1, 1)
    assert shapes["bottom_up_blocks.1.main_conv.conv.weight"] == (8, 16, 1, 1)
    assert shapes["out_convs.2.conv.weight"] == (6, 16, 1, 1)
    large = csp_next_pafpn([4, 8], 6, num_csp_blocks=1, use_depthwise=True)
    assert [tuple(o.shape[1:3]) for o in large(levels(4, 8))] == [(6, 16), (6, 8)]
    assert "out_convs.0.depthwise_conv.conv.weight" in large.state_dict()
    with pytest.raises(ValueError, match="built for 2 levels"):
        large(levels(4))


def test_yolo_gives_the_coarsest_level_first() -> None:
    neck = YOLOV3Neck(2, [8, 4], [6, 3])
    outs = neck(levels(4, 8))
    assert [tuple(o.shape[1:3]) for o in outs] == [(6, 8), (3, 16)]
    assert neck.state_dict()["detect2.conv1.conv.weight"].shape == (3, 7, 1, 1)
    with pytest.raises(ValueError, match="num_scales"):
        YOLOV3Neck(3, [8, 4], [6, 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BFP(4, 2, refine_level=2), "refine_level"),
        (lambda: BFP(4, 3, refine_type="mean"), "refine_type"),  # type: ignore[arg-type]
        (lambda: HRFPN([4], 4, pooling_type="SUM"), "pooling_type"),  # type: ignore[arg-type]
        (lambda: BFP(4, 3)(levels(4)), "built for 3 levels"),
        (lambda: HRFPN([4, 4], 4)(levels(4)), "built for 2 branches"),
        (lambda: NASFPN([4, 4, 4], 4, 5, stack_times=1)(levels(4)), "built for 3 levels"),
        (lambda: ChannelMapper([4, 4], 4)(levels(4)), "built for 2 levels"),
        (lambda: YOLOV3Neck(2, [4, 4], [4, 4])(levels(4)), "built for 2 levels"),
    ],
)
def test_what_does_not_fit_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
