"""Centerness, distribution and objectness criteria: hand-computed losses on one object."""

import math

import pytest
import torch

from fastdet.models.assigners import Assignment, DenseScene
from fastdet.models.coders import CellBBoxCoder, DistancePointBBoxCoder, DistributionBBoxCoder
from fastdet.models.criteria import CenternessCriterion, DistributionCriterion, ObjectnessCriterion
from fastdet.models.losses import (
    BinaryCrossEntropyLoss,
    DistributionFocalLoss,
    L1Loss,
    QualityFocalLoss,
    SigmoidLoss,
    iou_loss,
)
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

LN2 = math.log(2)
CELLS = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [16, 0, 24, 8]])
TARGETS = make_targets([[[0, 0, 16, 8]], []], [[1], []])
BINARY = BinaryCrossEntropyLoss(reduction="sum")


def scene(deltas: torch.Tensor, coder: object, *, quality: bool = True) -> DenseScene:
    """Zero logits of two classes at three cells of two images."""
    said = torch.zeros(2, 3) if quality else None
    output = DenseOutput(torch.zeros(2, 3, 2), deltas.expand(2, 3, -1), ((1, 3),), said)
    return DenseScene(CELLS, None, coder, output)  # type: ignore[arg-type]


def assigned(overlap: float = 0.0) -> Assignment:
    """The first cell answers for the object, the last one of the second image counts nowhere."""
    overlaps = torch.zeros(2, 3)
    overlaps[0, 0] = overlap
    return Assignment(torch.tensor([[0, -1, -1], [-1, -1, -2]]), overlaps)


@pytest.mark.parametrize(("at_least", "count"), [("one a batch", 1), ("one an image", 2)])
def test_centerness_weighs_boxes_and_is_learnt(at_least: str, count: int) -> None:
    criterion = CenternessCriterion(
        SigmoidLoss(),
        iou_loss(mode="linear"),
        BinaryCrossEntropyLoss(),
        at_least=at_least,
        min_centerness=1e-6,  # type: ignore[arg-type]
    )
    # from (4, 4) the object's sides are 4, 4, 12, 4 away: centerness sqrt(1 / 3); the box said is a quarter of it
    losses = criterion(scene(torch.tensor([4.0, 0, 0, 4]), DistancePointBBoxCoder()), assigned(), TARGETS)
    assert losses["loss_cls"].item() == pytest.approx(5 * 2 * LN2 / count)
    assert losses["loss_bbox"].item() == pytest.approx(1 - 16 / 128)
    assert losses["loss_centerness"].item() == pytest.approx(LN2 / count)


def test_distributions_learn_boxes_by_their_class_score() -> None:
    criterion = DistributionCriterion(QualityFocalLoss(), iou_loss(mode="linear"), DistributionFocalLoss())
    # flat distributions over 0 and 1 strides: 4 pixels to each side, half of the object
    losses = criterion(scene(torch.zeros(8), DistributionBBoxCoder(1)), assigned(), TARGETS)
    assert losses["loss_cls"].item() == pytest.approx((5 * 2 - 1) * LN2 / 4 / 2)  # the quality 0.5 is said already
    assert losses["loss_bbox"].item() == pytest.approx(0.5 * 0.5)  # weight 0.5 over at least 1
    assert losses["loss_dfl"].item() == pytest.approx(0.5 * LN2)


def test_objectness_counts_everywhere_and_classes_are_as_sure_as_boxes_overlap() -> None:
    criterion = ObjectnessCriterion(BINARY, iou_loss(mode="linear", reduction="sum"), BINARY, L1Loss(reduction="sum"))
    given = scene(torch.tensor([0.5, 0.5, 0, 0]), CellBBoxCoder())
    losses = criterion(given, assigned(0.5), TARGETS)
    assert set(losses) == {"loss_cls", "loss_bbox", "loss_obj"}
    assert losses["loss_cls"].item() == pytest.approx(2 * LN2)
    assert losses["loss_bbox"].item() == pytest.approx(0.5)
    assert losses["loss_obj"].item() == pytest.approx(5 * LN2)
    criterion.use_l1 = True
    assert criterion(given, assigned(0.5), TARGETS)["loss_l1"].item() == pytest.approx(0.5 + LN2, abs=1e-6)


def test_heads_must_say_what_the_criterion_learns() -> None:
    given = scene(torch.zeros(4), DistancePointBBoxCoder(), quality=False)
    centerness = CenternessCriterion(SigmoidLoss(), iou_loss(), BINARY)
    with pytest.raises(ValueError, match="centerness"):
        centerness(given, assigned(), TARGETS)
    with pytest.raises(ValueError, match="objectness"):
        ObjectnessCriterion(BINARY, iou_loss(), BINARY, L1Loss())(given, assigned(), TARGETS)
    with pytest.raises(ValueError, match="DistributionBBoxCoder"):
        DistributionCriterion(QualityFocalLoss(), iou_loss(), DistributionFocalLoss())(given, assigned(), TARGETS)
