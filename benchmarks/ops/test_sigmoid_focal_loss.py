"""sigmoid_focal_loss of RetinaNet's 201,600 anchors and of FCOS's 22,400 points, 80 classes, against torchvision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision import ops as peer

from benchmarks.timing import Timing
from fastdet import ops

ROWS = ("torchvision, dense targets", "fastdet, labels")
CLASSES = 80


def loss_of(row: str, count: int, device: str) -> tuple[Tensor, Callable[[], Tensor]]:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(count, CLASSES, generator=generator) - 4).to(device).requires_grad_()
    labels = torch.where(torch.rand(count, generator=generator) < 0.01, 3, CLASSES).to(device)
    if row == "fastdet, labels":
        return logits, lambda: ops.sigmoid_focal_loss(logits, labels, reduction="sum")
    target = (labels[:, None] == torch.arange(CLASSES, device=device)).float()
    return logits, lambda: peer.sigmoid_focal_loss(logits, target, reduction="sum")


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("count", [1000, 22400, 201600])
def test_forward(timing: Timing, device: str, count: int, row: str) -> None:
    _, loss = loss_of(row, count, device)
    with torch.no_grad():
        timing(f"sigmoid_focal_loss forward, {count} x {CLASSES}, sum, fp32", row, loss, rounds=3)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("count", [1000, 22400, 201600])
def test_forward_and_backward(timing: Timing, device: str, count: int, row: str) -> None:
    logits, loss = loss_of(row, count, device)
    group = f"sigmoid_focal_loss forward and backward, {count} x {CLASSES}, sum, fp32"
    timing(group, row, lambda: torch.autograd.grad(loss(), logits), rounds=3)
