"""VotingPostprocess: scores, which candidates vote, where boxes move."""

import math

import pytest
import torch

from fastdet.models.coders import DistancePointBBoxCoder
from fastdet.models.postprocess import VotingPostprocess
from fastdet.structures import DenseOutput

CELLS = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8], [40, 40, 48, 48]])


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def detect(voting: bool, nms_pre: int = -1) -> tuple[list[list[float]], list[float], list[int], int]:
    """Two overlapping boxes of class 1 and one far away of class 0."""
    logits = torch.full((1, 3, 2), -20.0)
    logits[0, 0, 1], logits[0, 1, 1], logits[0, 2, 0] = logit(0.64), logit(0.36), logit(0.25)
    boxes = torch.tensor([[[4.0, 4, 4, 4], [4.0, 4, 5, 4], [4.0, 4, 4, 4]]])
    output = DenseOutput(logits, boxes, ((1, 3),), torch.full((1, 3), 50.0))
    postprocess = VotingPostprocess(4, 0.6, nms_pre=nms_pre, score_thr=0.1, score_voting=voting)
    found = postprocess(output, CELLS, DistancePointBBoxCoder(), torch.tensor([[64, 64]]))
    return found.boxes[0].tolist(), found.scores[0].tolist(), found.labels[0].tolist(), int(found.count)


def test_scores_are_geometric_means_and_nms_works_within_a_class() -> None:
    boxes, scores, labels, count = detect(False)
    assert count == 2
    assert scores == pytest.approx([0.8, 0.5, 0, 0])
    assert labels == [1, 0, 0, 0]
    assert boxes[0] == [0, 0, 8, 8]


def test_neighbours_of_the_class_move_the_box() -> None:
    boxes, scores, _, _ = detect(True)
    votes = 0.8, 0.6 * math.exp(-((1 - 8 / 9) ** 2) / 0.025)
    assert boxes[0] == pytest.approx([0, 0, (8 * votes[0] + 9 * votes[1]) / sum(votes), 8])
    assert boxes[1] == [40, 40, 48, 48]
    assert boxes[2] == [0, 0, 0, 0]
    assert scores[0] == pytest.approx(0.8)


def test_only_the_best_priors_of_a_level_are_looked_at() -> None:
    boxes, _, _, count = detect(True, nms_pre=1)
    assert count == 1
    assert boxes[0] == pytest.approx([0, 0, 8, 8])


def test_a_quality_is_needed() -> None:
    output = DenseOutput(torch.zeros(1, 3, 2), torch.zeros(1, 3, 4), ((1, 3),))
    with pytest.raises(ValueError, match="quality"):
        VotingPostprocess(4, 0.6)(output, CELLS, DistancePointBBoxCoder(), torch.tensor([[64, 64]]))
