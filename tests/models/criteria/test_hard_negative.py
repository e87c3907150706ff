"""HardNegativeCriterion: which negatives count, by hand."""

import math

import pytest
import torch

from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.criteria import HardNegativeCriterion
from fastdet.models.losses import SmoothL1Loss
from fastdet.models.samplers import Selection
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

LN2 = math.log(2)
PRIORS = torch.tensor([[0.0, 0, 8, 8]]).expand(4, 4)


def criterion(ratio: float = 1) -> HardNegativeCriterion:
    return HardNegativeCriterion(SmoothL1Loss(beta=1.0), neg_pos_ratio=ratio)


def losses(logits: torch.Tensor, positive: list[list[int]], ratio: float = 1) -> dict[str, float]:
    """One class and the background at four priors of each image; those that are not positive are negative."""
    chosen = torch.tensor(positive, dtype=torch.bool)
    batch = len(chosen)
    average = chosen.sum(1).clamp(min=1).sum().float()
    selection = Selection(None, torch.zeros(batch, 4, dtype=torch.int64), chosen, ~chosen, average)
    output = DenseOutput(logits, torch.ones(batch, 4, 4), ((2, 2),))
    targets = make_targets([[[0, 0, 8, 8]] for _ in range(batch)])
    values = criterion(ratio)(output, PRIORS, DeltaXYWHBBoxCoder(), selection, targets)
    return {name: value.item() for name, value in values.items()}


def test_as_many_of_the_worst_negatives_count_as_the_ratio_says() -> None:
    logits = torch.tensor([[[0, 0], [0, 9], [3, 0], [0, 0]]]).float()
    worst = math.log(1 + math.exp(3))
    assert losses(logits, [[1, 0, 0, 0]])["loss_cls"] == pytest.approx(LN2 + worst)
    assert losses(logits, [[1, 0, 0, 0]], ratio=2)["loss_cls"] == pytest.approx(LN2 + worst + LN2)


def test_an_image_has_its_own_negatives_and_none_without_positives() -> None:
    logits = torch.zeros(2, 4, 2)
    logits[1, :, 0] = 50  # a wall of false positives on an image without objects
    assert losses(logits, [[1, 1, 0, 0], [0, 0, 0, 0]])["loss_cls"] == pytest.approx(4 * LN2 / 3)


def test_there_may_be_fewer_negatives_than_wanted() -> None:
    assert losses(torch.zeros(1, 4, 2), [[1, 1, 1, 0]], ratio=3)["loss_cls"] == pytest.approx(4 * LN2 / 3)


def test_boxes_of_positives_count_over_the_average() -> None:
    assert losses(torch.zeros(1, 4, 2), [[1, 1, 0, 0]])["loss_bbox"] == pytest.approx(2 * 4 * 0.5 / 2)
    assert losses(torch.zeros(1, 4, 2), [[0, 0, 0, 0]])["loss_bbox"] == 0
