"""IoU losses: hand-computed values, weights, pairs that do not count."""

import math

import pytest
import torch

from fastdet.models.losses import bounded_iou_loss, ciou_loss, diou_loss, giou_loss, iou_loss

# 10 x 10 boxes, the second shifted by half a width: shared 50, union 150, enclosing 15 x 10
BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
OBJECTS = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10]])
APART = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[4.0, 0, 6, 2]])


@pytest.mark.parametrize(("mode", "wanted"), [("log", math.log(3)), ("linear", 2 / 3), ("square", 8 / 9)])
def test_iou_losses_have_three_scales(mode: str, wanted: float) -> None:
    loss = iou_loss(reduction="none", mode=mode)(BOXES, OBJECTS)
    assert loss.tolist() == pytest.approx([0, wanted], abs=1e-6)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="'cubic'"):
        iou_loss(mode="cubic")  # type: ignore[arg-type]


def test_giou_counts_the_empty_part_of_the_enclosing_box() -> None:
    assert giou_loss(reduction="none")(BOXES, OBJECTS).tolist() == pytest.approx([0, 2 / 3], abs=1e-6)
    assert giou_loss()(*APART).item() == pytest.approx(1 + 4 / 12)


def test_diou_counts_the_distance_of_the_centres() -> None:
    assert diou_loss(reduction="none")(BOXES, OBJECTS).tolist() == pytest.approx([0, 2 / 3 + 25 / 325], abs=1e-6)


def test_ciou_counts_proportions_of_boxes_that_overlap_well() -> None:
    tall = torch.tensor([[0.0, 0, 6, 10]])
    square = torch.tensor([[0.0, 0, 10, 10]])
    shape = 4 / math.pi**2 * (math.atan(1) - math.atan(0.6)) ** 2
    wanted = 1 - 0.6 + 4 / 200 + shape * shape / (1 - 0.6 + shape)
    assert ciou_loss()(tall, square).item() == pytest.approx(wanted, abs=1e-5)


def test_bounded_iou_has_four_terms_of_smooth_l1() -> None:
    terms = bounded_iou_loss(reduction="none", eps=0.0)(BOXES, OBJECTS)
    assert terms[0].tolist() == [0, 0, 0, 0]
    assert terms[1].tolist() == pytest.approx([1 - 0.1, 0, 0, 0])  # (10 - 10) / (10 + 10) of the IoU would be left


@pytest.mark.parametrize("factory", [iou_loss, giou_loss, diou_loss, ciou_loss, bounded_iou_loss])
def test_pairs_of_weight_zero_spoil_neither_loss_nor_gradient(factory: object) -> None:
    loss = factory()  # type: ignore[operator]
    boxes = torch.tensor([[0.0, 0, 9, 10], [torch.nan, torch.inf, 0, 0]], requires_grad=True)
    objects = torch.tensor([[0.0, 0, 10, 10], [0, 0, 0, 0]])
    value = loss(boxes, objects, weight=torch.tensor([2.0, 0.0]), avg_factor=4)
    assert value.item() == pytest.approx(loss(boxes[:1], objects[:1], weight=torch.tensor([2.0]), avg_factor=4).item())
    value.backward()
    assert boxes.grad is not None
    assert boxes.grad[0].abs().sum() > 0
    assert boxes.grad[1].tolist() == [0, 0, 0, 0]


def test_weights_of_four_coordinates_count_as_their_mean() -> None:
    weight = torch.tensor([[1.0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]])
    value = iou_loss(mode="linear", loss_weight=3)(BOXES, OBJECTS, weight=weight, avg_factor=2)
    assert value.item() == pytest.approx(3 * 0.5 * (2 / 3) / 2)
