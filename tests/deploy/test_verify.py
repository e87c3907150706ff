"""Detections of two runs are compared as sets."""

import pytest
import torch

from fastdet.deploy.verify import Limits, compare
from fastdet.structures import Detections

LIMITS = Limits()


def found(*rows: tuple[float, float, int], slots: int = 4) -> Detections:
    """One image's detections from (x, score, label)."""
    boxes, scores, labels = torch.zeros(1, slots, 4), torch.zeros(1, slots), torch.zeros(1, slots, dtype=torch.int64)
    for slot, (x, score, label) in enumerate(rows):
        boxes[0, slot] = torch.tensor([x, 0, x + 10, 10])
        scores[0, slot], labels[0, slot] = score, label
    return Detections(boxes, scores, labels, torch.tensor([len(rows)]))


def test_another_order_is_the_same() -> None:
    outcome = compare([found((0, 0.5, 1), (20, 0.5, 1))], [found((20, 0.5, 1), (0, 0.5, 1))], LIMITS)
    assert outcome.share == 1
    assert outcome.holds(LIMITS)


@pytest.mark.parametrize("other", [(0.1, 0.5, 1), (0, 0.501, 1), (0, 0.5, 2)], ids=["box", "score", "label"])
def test_a_difference_is_found(other: tuple[float, float, int]) -> None:
    assert not compare([found((0, 0.5, 1))], [found(other)], LIMITS).holds(LIMITS)


def test_errors_of_partners_are_reported() -> None:
    outcome = compare([found((0, 0.5, 1))], [found((0.001, 0.50001, 1))], LIMITS)
    assert outcome.box_error == pytest.approx(1e-3, rel=0.01)
    assert outcome.score_error == pytest.approx(1e-5, rel=0.01)


def test_one_too_many_is_found() -> None:
    assert not compare([found((0, 0.5, 1))], [found((0, 0.5, 1), (50, 0.4, 1))], LIMITS).holds(LIMITS)


def test_the_last_slot_may_go_to_an_equal() -> None:
    first, second = found((0, 0.5, 1), (20, 0.25, 1), slots=2), found((0, 0.5, 1), (60, 0.25, 1), slots=2)
    assert compare([first], [second], LIMITS).holds(LIMITS)


def test_nothing_equals_nothing() -> None:
    assert compare([found()], [found()], LIMITS).share == 1
