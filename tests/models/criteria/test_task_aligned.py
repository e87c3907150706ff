"""TaskAlignedAssigner, TaskAlignedCriterion and BagCriterion: hand-computed values."""

import math

import pytest
import torch
from torch import Tensor

from fastdet.models.assigners import DenseScene, MaxIoUAssigner, NoAssigner, PriorAssigner, TaskAlignedAssigner
from fastdet.models.coders import AbsoluteBBoxCoder, DeltaXYWHBBoxCoder
from fastdet.models.criteria import BagCriterion, TaskAlignedCriterion
from fastdet.models.losses import FocalLoss, L1Loss, QualityFocalLoss, iou_loss
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

LN2 = math.log(2)
CELLS = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [16, 0, 24, 8]])
TARGETS = make_targets([[[0, 0, 16, 8]], []], [[1], []])
BOXES = torch.tensor([[0.0, 0, 16, 8], [0, 0, 8, 8], [0, 0, 16, 8]])  # IoU 1, 1/2, 1 with the object


def scene(boxes: Tensor, coder: object | None = None) -> DenseScene:
    """Zero logits of two classes at three cells of two images."""
    output = DenseOutput(torch.zeros(2, 3, 2), boxes.expand(2, 3, 4).clone(), ((1, 3),))
    return DenseScene(CELLS, None, coder or AbsoluteBBoxCoder(), output)  # type: ignore[arg-type]


def test_objects_take_what_is_said_best_within_them() -> None:
    found = TaskAlignedAssigner(3, beta=1)(scene(BOXES), TARGETS)
    assert found.gt_index.tolist() == [[0, 0, -1], [-1, -1, -1]]  # the third cell's centre lies outside
    assert found.overlaps.tolist()[0] == pytest.approx([1.0, 0.5, 0])  # over the largest, times an IoU of 1


def test_the_best_are_as_many_as_topk_says() -> None:
    found = TaskAlignedAssigner(1)(scene(BOXES[:, [0, 1, 2, 3]].flip(0)[[1, 2, 0]]), TARGETS)
    assert found.gt_index.tolist()[0] == [-1, 0, -1]


def test_a_prior_keeps_the_object_it_overlaps_most() -> None:
    targets = make_targets([[[0, 0, 13, 8], [0, 0, 16, 8]], []], [[0, 1], []])
    found = TaskAlignedAssigner(3, beta=1)(scene(BOXES), targets)
    assert found.gt_index.tolist()[0] == [1, 0, -1]


def criterion(initial_epoch: int = 2) -> TaskAlignedCriterion:
    return TaskAlignedCriterion(
        PriorAssigner(MaxIoUAssigner(0.5, 0.5, match_low_quality=False)),
        TaskAlignedAssigner(3, beta=1),
        FocalLoss(),
        QualityFocalLoss(),
        iou_loss(mode="linear"),
        initial_epoch=initial_epoch,
    )


def test_the_first_epochs_have_other_positives_of_equal_worth() -> None:
    losses = criterion()(scene(BOXES.flip(0)[[0, 1, 1]]), NoAssigner()(scene(BOXES), TARGETS), TARGETS)
    positives, others = 2 * 0.25 * 0.25 * LN2, 10 * 0.75 * 0.25 * LN2  # cells 0 and 1 cover half of the object each
    assert losses["loss_cls"].item() == pytest.approx((positives + others) / 2)
    central = math.sqrt(1 / 3)  # 4 pixels to one side, 12 to the other
    assert losses["loss_bbox"].item() == pytest.approx(central * 0.5 / (2 * central))


def test_later_epochs_learn_how_well_priors_are_aligned() -> None:
    changing = criterion()
    changing.start_epoch(2)
    losses = changing(scene(BOXES), NoAssigner()(scene(BOXES), TARGETS), TARGETS)
    assert losses["loss_cls"].item() == pytest.approx((11 - 0) * 0.25 * LN2 / 1.5, rel=1e-5)  # 1/2 is said already
    assert losses["loss_bbox"].item() == pytest.approx(0.5 * 0.5 / 1.5, rel=1e-5)
    changing.start_epoch(1)
    assert changing(scene(BOXES), NoAssigner()(scene(BOXES), TARGETS), TARGETS)["loss_cls"].item() > 0


def test_an_object_is_as_likely_as_the_best_of_its_bag() -> None:
    bags = BagCriterion(L1Loss(loss_weight=1.0), pre_anchor_topk=1)
    given = scene(torch.zeros(4), DeltaXYWHBBoxCoder())
    targets = make_targets([[[0, 0, 8, 8]], []], [[1], []])
    losses = bags(given, NoAssigner()(given, targets), targets)
    assert losses["positive_bag_loss"].item() == pytest.approx(0.5 * LN2)  # the box is right, the class one half
    # of 12 pairs the right one is no background
    assert losses["negative_bag_loss"].item() == pytest.approx(0.5 * 11 * 0.25 * LN2)


def test_boxes_that_overlap_a_little_are_background() -> None:
    bags = BagCriterion(L1Loss(), pre_anchor_topk=2, bbox_thr=0.4)
    given = scene(torch.zeros(4), DeltaXYWHBBoxCoder())
    targets = make_targets([[[0, 0, 16, 8]], []], [[0], []])
    losses = bags(given, NoAssigner()(given, targets), targets)
    # cells 0 and 1 both have the largest IoU of 1/2
    assert losses["negative_bag_loss"].item() == pytest.approx(0.5 * 10 * 0.25 * LN2 / 2)
    box = math.exp(-(0.5 + LN2))  # shifted by half a width, half as wide
    assert losses["positive_bag_loss"].item() == pytest.approx(-0.5 * math.log(0.5 * box))


def test_without_objects_all_is_background() -> None:
    bags, given = BagCriterion(L1Loss()), scene(torch.zeros(4), DeltaXYWHBBoxCoder())
    nothing = make_targets([[], []])
    losses = bags(given, NoAssigner()(given, nothing), nothing)
    assert losses["positive_bag_loss"].item() == 0
    assert losses["negative_bag_loss"].item() == pytest.approx(0.5 * 12 * 0.25 * LN2)
