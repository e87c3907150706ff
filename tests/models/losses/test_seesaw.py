"""Seesaw loss, by hand."""

import math

import pytest
import torch

from fastdet.models.losses import SeesawLoss


def test_a_class_with_fewer_objects_is_punished_less() -> None:
    """Class 1 has had a quarter of class 0's objects after this one: with p = 1/2 its share counts half."""
    loss = SeesawLoss(p=0.5, q=0.0, num_classes=2)
    loss.cum_samples.copy_(torch.tensor([15.0, 4.0, 0.0]))
    found = loss(torch.zeros(1, 4), torch.tensor([0]), avg_factor=1.0)
    assert found["loss_cls_classes"].item() == pytest.approx(math.log(1.5))
    assert found["loss_cls_objectness"].item() == pytest.approx(math.log(2))
    assert loss.cum_samples.tolist() == [16, 4, 0]
    # the other way round nothing changes
    assert loss(torch.zeros(1, 4), torch.tensor([1]), avg_factor=1.0)["loss_cls_classes"].item() == pytest.approx(
        math.log(2)
    )


def test_a_wrong_class_that_is_likelier_is_punished_more() -> None:
    """Shares 1/4 and 3/4: the wrong one is thrice as likely, and counts 9 times with q = 2: 1 / (1 + 27)."""
    loss = SeesawLoss(p=0.0, q=2.0, num_classes=2)
    logits = torch.tensor([[0.0, math.log(3), 0.0, 0.0]])
    assert loss(logits, torch.tensor([0]), avg_factor=1.0)["loss_cls_classes"].item() == pytest.approx(math.log(28))
    assert loss(logits, torch.tensor([1]), avg_factor=1.0)["loss_cls_classes"].item() == pytest.approx(math.log(4 / 3))


def test_the_background_has_no_class_and_padding_is_not_seen() -> None:
    loss = SeesawLoss(num_classes=2, loss_weight=2.0)
    logits = torch.tensor([[[0.0, 5.0, 0.0, math.log(3)], [9.0, 9.0, 9.0, 9.0]]], requires_grad=True)
    found = loss(logits, torch.tensor([[2, 0]]), weight=torch.tensor([[1.0, 0.0]]), avg_factor=1.0)
    assert found["loss_cls_classes"].item() == 0
    assert found["loss_cls_objectness"].item() == pytest.approx(2 * math.log(4 / 3))
    assert (found["acc_objectness"].item(), found["acc_classes"].item()) == (100, 0)
    assert loss.cum_samples.tolist() == [0, 0, 1]
    sum(v for name, v in found.items() if "loss" in name).backward()
    assert (logits.grad[0, 1] == 0).all()
