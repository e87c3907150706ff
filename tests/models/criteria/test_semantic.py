"""The loss of a semantic branch."""

import math

import pytest
import torch

from fastdet.models.criteria import SemanticCriterion
from fastdet.models.losses import SoftmaxLoss
from tests.models.helpers import make_targets


def test_each_cell_has_the_class_of_its_upper_left_pixel_and_ignored_ones_cost_nothing() -> None:
    maps = torch.full((1, 4, 8), 255, dtype=torch.uint8)
    maps[0, 0, 0], maps[0, 0, 4] = 1, 0
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 1, 0, 0] = math.log(2.0)  # probability 1/2 in the first cell, 1/3 in the second
    criterion = SemanticCriterion(SoftmaxLoss(ignore_index=255, loss_weight=0.2), seg_scale_factor=1 / 4)
    loss = criterion(logits, make_targets([[]])._replace(semantic=maps))["loss_semantic_seg"]
    assert loss.item() == pytest.approx(0.2 * (math.log(2) + math.log(3)) / 2)
    maps[0, 0, 4] = 255
    loss = criterion(logits, make_targets([[]])._replace(semantic=maps))["loss_semantic_seg"]
    assert loss.item() == pytest.approx(0.2 * math.log(2) / 2)  # averaged over all cells, as in MMDetection


def test_maps_that_are_missing_or_do_not_fit_are_refused() -> None:
    criterion = SemanticCriterion(SoftmaxLoss(ignore_index=255))
    with pytest.raises(ValueError, match="with_seg=True"):
        criterion(torch.zeros(1, 3, 1, 2), make_targets([[]]))
    maps = torch.zeros(1, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"are \(2, 2\) after scaling"):
        criterion(torch.zeros(1, 3, 1, 2), make_targets([[]])._replace(semantic=maps))
