"""Small rules of the loop that a whole run does not show."""

import pytest
import torch

from fastdet.config.schema import Loop
from fastdet.engine.loop import interval_at
from fastdet.engine.state import total_loss


def test_the_total_is_the_sum_of_what_is_called_a_loss() -> None:
    losses = {"loss_cls": torch.tensor(1.0), "acc": torch.tensor(50.0), "rpn_loss_bbox": torch.tensor([2.0, 4.0])}
    assert total_loss(losses).item() == 4.0


@pytest.mark.parametrize(("count", "expected"), [(1, 10), (278, 10), (279, 1), (280, 1), (300, 1)])
def test_a_dynamic_interval_holds_from_the_unit_before_its_begin_on(count: int, expected: int) -> None:
    assert interval_at(Loop(length=300, val_interval=10, dynamic_intervals=((280, 1),)), count) == expected


def test_of_several_dynamic_intervals_the_latest_begun_holds() -> None:
    loop = Loop(length=300, val_interval=10, dynamic_intervals=((200, 5), (100, 7)))
    assert [interval_at(loop, count) for count in (50, 150, 250)] == [10, 7, 5]
