"""Which cells of which level guided anchoring looks for an object in."""

import pytest
import torch

from fastdet.models.criteria import GuideCriterion
from fastdet.models.losses import FocalLoss, L1Loss
from fastdet.models.samplers import Selection
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

SIZES = ((8, 8), (4, 4), (2, 2))
STRIDES = (4, 8, 16)


def make_criterion(prefix=""):
    return GuideCriterion(FocalLoss(), L1Loss(), 4, center_ratio=0.2, ignore_ratio=0.5, prefix=prefix)


def located(boxes):
    """Labels and weights of each level as lists of rows."""
    labels, weights = make_criterion().locations(SIZES, STRIDES, make_targets([boxes]))
    parts = [64, 16, 4]
    return [
        [level.view(h, w).tolist() for level, (h, w) in zip(v[0].split(parts), SIZES, strict=True)]
        for v in (labels, weights)
    ]


def test_an_object_is_looked_for_in_the_middle_of_its_level_and_not_around_it():
    """16 pixels are the first level's square. In its cells the box is 1 to 5: a fifth is cell 3, half is 2 to 4."""
    labels, weights = located([[4.0, 4.0, 20.0, 20.0]])
    assert [(y, x) for y in range(8) for x in range(8) if labels[0][y][x]] == [(3, 3)]
    assert {(y, x): w for y, row in enumerate(weights[0]) for x, w in enumerate(row) if w != pytest.approx(0.1)} == {
        (y, x): float((y, x) == (3, 3)) for y in range(2, 5) for x in range(2, 5)
    }


def test_the_levels_beside_look_away_and_those_further_off_do_not():
    """On the second level the box is 0.5 to 2.5, its middle half 1 to 2."""
    labels, weights = located([[4.0, 4.0, 20.0, 20.0]])
    assert labels[1] == [[0] * 4] * 4
    assert [(y, x) for y in range(4) for x in range(4) if weights[1][y][x] == 0] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert torch.tensor(weights[2]).flatten().tolist() == pytest.approx([0.1] * 4)


def test_where_objects_overlap_the_last_one_decides():
    small, moved = [4.0, 4.0, 20.0, 20.0], [8.0, 4.0, 24.0, 20.0]  # middles (3, 3) and (3, 4), surroundings 2-4, 3-5
    labels, weights = located([small, moved])
    assert [(y, x) for y in range(8) for x in range(8) if labels[0][y][x]] == [(3, 3), (3, 4)]
    assert (weights[0][3][3], weights[0][3][4]) == (0, 1)


def test_an_image_without_objects_counts_a_tenth_everywhere():
    labels, weights = make_criterion().locations(SIZES, STRIDES, make_targets([[]]))
    assert labels.sum() == 0
    torch.testing.assert_close(weights, torch.full((1, 84), 0.1))


def test_the_losses_are_those_of_logits_and_of_positive_anchors():
    """A logit of 0 has the loss weight * alpha * 1/4 * ln 2 for label 0, the class of a loss with one class."""
    guide = DenseOutput(torch.zeros(1, 84, 1), torch.zeros(1, 84, 2), SIZES)
    anchors = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 7.0, 7.0]]])
    yes, no = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    selection = Selection(torch.tensor([[0, 1]]), torch.tensor([[0, 0]]), yes, no, torch.tensor(2.0))
    targets = make_targets([[[100.0, 100.0, 112.0, 113.0]]])
    losses = make_criterion("anchor_")(guide, anchors, STRIDES, selection, make_targets([[]], slots=1))
    assert losses["loss_anchor_loc"].item() == pytest.approx(84 * 0.1 * 0.25 * 0.25 * 0.6931472 / (84 / 200), rel=1e-5)
    selection = selection._replace(average=torch.tensor(4.0))

    class Widths(L1Loss):
        def __call__(self, values, target, *, weight=None, avg_factor=None):
            return (weight * (values - target))[..., 2].abs().sum() / avg_factor

    criterion = GuideCriterion(FocalLoss(), Widths(), 4, center_ratio=0.2, ignore_ratio=0.5)
    assert criterion(guide, anchors, STRIDES, selection, targets)["loss_shape"].item() == pytest.approx(102 / 4)
