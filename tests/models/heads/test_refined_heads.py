"""RepPointsHead, VFNetHead and FoveaHead: keys, points and stars by hand, where gradients stop."""

import math

import pytest
import torch
from torch import Tensor, nn

from fastdet.models.heads import FoveaHead, RepPointsHead, VFNetHead


def silent(head: nn.Module, **biases: list[float]) -> nn.Module:
    """The head with all parameters 0 but the biases given by layer name."""
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if not name.startswith("scales"):
                parameter.zero_()
        for name, values in biases.items():
            head.get_submodule(name).bias.copy_(torch.tensor(values))  # type: ignore[operator, union-attr]
    return head


def boxes(head: nn.Module, size: tuple[int, int] = (1, 1)) -> tuple[Tensor, Tensor]:
    """First and refined distances of one image with one level."""
    output = head([torch.zeros(1, 1, *size)])
    assert output.first_deltas is not None
    return output.first_deltas[0], output.box_deltas[0]


def reppoints(method: str = "minmax", **more: object) -> RepPointsHead:
    sizes = {"stacked_convs": 1, "feat_channels": 2, "point_feat_channels": 2}
    return RepPointsHead(3, 1, transform_method=method, **(sizes | more))  # type: ignore[arg-type]


POINTS = [y_or_x for point in [(-1, -2), (0, 0), (2, 3), (1, 1)] + [(5, 6)] * 5 for y_or_x in map(float, point)]


@pytest.mark.parametrize(("method", "expected"), [("minmax", [2, 1, 6, 5]), ("partial_minmax", [2, 1, 3, 2])])
def test_the_box_is_that_of_the_outermost_points(method: str, expected: list[float]) -> None:
    head = silent(reppoints(method), reppoints_pts_init_out=POINTS)
    first, refined = boxes(head)
    assert first[0].tolist() == expected  # left, top, right, bottom
    assert refined[0].tolist() == expected  # nothing was changed


def test_the_box_reaches_to_both_sides_of_the_mean_by_a_trained_multiple() -> None:
    head = silent(reppoints("moment"), reppoints_pts_init_out=[0.0, 1.0] * 8 + [9.0, 1.0])
    with torch.no_grad():
        head.moment_transfer.copy_(torch.tensor([5.0, math.log(2)]))  # type: ignore[union-attr, operator]
    left, top, right, bottom = boxes(head)[0][0].tolist()
    assert (left, right) == pytest.approx((-1, 1))  # all points have the same x
    deviation = math.sqrt((8 * 1 + 64) / 8)  # around the mean of 1
    assert (top, bottom) == pytest.approx((2 * deviation - 1, 2 * deviation + 1))
    boxes(head)[0][0, 1].backward()
    gradient = head.moment_transfer.grad  # type: ignore[union-attr]
    assert gradient is not None
    assert gradient.tolist() == pytest.approx([0, 0.01 * 2 * deviation])  # type: ignore[union-attr]


def test_refined_points_start_from_the_first_and_leave_them_alone() -> None:
    head = silent(reppoints(), reppoints_pts_init_out=POINTS, reppoints_pts_refine_out=[0.5, 1.0] * 9)
    refined = boxes(head)[1]
    assert refined[0].tolist() == [1, 0.5, 7, 5.5]
    refined.sum().backward()
    assert head.reppoints_pts_init_out.bias.grad is None or not head.reppoints_pts_init_out.bias.grad.any()  # type: ignore[union-attr]


def test_points_may_be_a_grid_in_a_box_that_grows() -> None:
    head = silent(
        reppoints(use_grid_points=True, point_base_scale=4),
        reppoints_pts_init_out=[0.25, 0.0, math.log(2), 0.0],  # a quarter to the right, twice as wide
        reppoints_pts_refine_out=[0.0, 0.5, 0.0, 0.0],  # half its height down
    )
    first, refined = boxes(head)
    assert first[0].tolist() == pytest.approx([3, 2, 5, 2])
    assert refined[0].tolist() == pytest.approx([3, 0, 5, 4])
    points, _ = head._grid(torch.zeros(1, 4, 1, 1), torch.tensor([0.0, 0, 2, 4]).view(1, 4, 1, 1))
    assert points.flatten().unflatten(0, (9, 2)).tolist() == [[y, x] for y in (0, 2, 4) for x in (0, 1, 2)]


def test_points_may_start_on_a_grid() -> None:
    first, _ = boxes(silent(reppoints(center_init=False, point_base_scale=6)))
    assert first[0].tolist() == [3, 3, 3, 3]


def test_the_points_head_has_the_names_of_the_release() -> None:
    names = set(reppoints("moment").state_dict())
    assert "moment_transfer" in names
    assert {n for n in names if "cls" in n and not n.startswith("cls_convs")} == {
        "reppoints_cls_conv.weight",
        "reppoints_cls_out.weight",
        "reppoints_cls_out.bias",
    }
    assert "moment_transfer" not in reppoints("minmax").state_dict()
    with pytest.raises(ValueError, match="square of an odd number"):
        reppoints(num_points=4)


def vfnet() -> VFNetHead:
    return VFNetHead(2, 1, [8], [64], stacked_convs=1, feat_channels=2)


def test_vfnets_boxes_are_refined_by_factors() -> None:
    head = silent(vfnet(), vfnet_reg=[0, math.log(2), 0, 0], vfnet_reg_refine=[math.log(0.5), 0, 0, 0])
    first, refined = boxes(head)
    assert first[0].tolist() == pytest.approx([64, 128, 64, 64])
    assert refined[0].tolist() == pytest.approx([32, 128, 64, 64])


def test_the_star_reads_corners_sides_and_centre_of_the_box() -> None:
    offsets = vfnet()._offsets(torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)).flatten().unflatten(0, (9, 2))
    kernel = torch.tensor([[y, x] for y in (-1.0, 0, 1) for x in (-1.0, 0, 1)])
    assert (offsets + kernel).tolist() == [[y, x] for y in (-2, 0, 4) for x in (-1, 0, 3)]


def test_a_tenth_of_the_gradient_flows_through_the_star() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 3, 3)
    gradients = []
    for share in (0.1, 1.0):
        torch.manual_seed(1)
        head = VFNetHead(2, 1, [8], [64], stacked_convs=1, feat_channels=2, gradient_mul=share)
        head([x]).cls_logits.sum().backward()
        assert head.vfnet_reg.bias is not None
        assert head.vfnet_reg.bias.grad is not None
        gradients.append(head.vfnet_reg.bias.grad)
    assert torch.allclose(gradients[0] * 10, gradients[1], atol=1e-8)


def test_foveas_classes_may_look_where_the_box_is() -> None:
    plain, aligned = (
        FoveaHead(3, 4, stacked_convs=2, feat_channels=4, with_deform=deform, deform_groups=2)
        for deform in (False, True)
    )
    assert "cls_convs.1.conv.weight" in plain.state_dict()
    weights = {name: tuple(v.shape) for name, v in aligned.state_dict().items() if name.endswith("weight")}
    shapes = {name: shape for name, shape in weights.items() if "reg" not in name}
    assert shapes == {
        "cls_convs.0.conv.weight": (16, 4, 3, 3),
        "cls_convs.1.conv.weight": (16, 16, 1, 1),
        "conv_cls.weight": (3, 16, 3, 3),
        "feature_adaption.conv_offset.weight": (36, 4, 1, 1),
        "feature_adaption.conv_adaption.weight": (4, 4, 3, 3),
    }
    output = aligned([torch.rand(2, 4, 3, 2), torch.rand(2, 4, 1, 1)])
    assert output.cls_logits.shape == (2, 7, 3)
    assert output.box_deltas.shape == (2, 7, 4)
