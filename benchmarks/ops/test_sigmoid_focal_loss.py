"""sigmoid_focal_loss of RetinaNet's 201,600 anchors and of FCOS's 22,400 points, 80 classes, against torchvision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision import ops as peer

from benchmarks.timing import Timing
from benchmarks.work import moved_work, size_of
from fastdet import ops

ROWS = ("torchvision, dense targets", "fastdet, labels")
CLASSES = 80


def loss_of(
    row: str, count: int, device: str, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Callable[[], Tensor]]:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(count, CLASSES, generator=generator) - 4).to(device, dtype).requires_grad_()
    labels = torch.where(torch.rand(count, generator=generator) < 0.01, 3, CLASSES).to(device)
    if row == "fastdet, labels":
        return logits, lambda: ops.sigmoid_focal_loss(logits, labels, reduction="sum")
    target = (labels[:, None] == torch.arange(CLASSES, device=device)).to(dtype)
    return logits, lambda: peer.sigmoid_focal_loss(logits, target, reduction="sum")


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("count", [1000, 22400, 201600])
def test_forward(timing: Timing, device: str, count: int, row: str) -> None:
    logits, loss = loss_of(row, count, device)
    work = moved_work([logits], 8 * count)
    with torch.no_grad():
        timing(f"sigmoid_focal_loss forward, {count} x {CLASSES}, sum, fp32", row, loss, rounds=3, work=work)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("count", [1000, 22400, 201600])
def test_forward_and_backward(timing: Timing, device: str, count: int, row: str) -> None:
    logits, loss = loss_of(row, count, device)
    group = f"sigmoid_focal_loss forward and backward, {count} x {CLASSES}, sum, fp32"
    work = moved_work([logits, logits], 8 * count + size_of(logits))
    timing(group, row, lambda: torch.autograd.grad(loss(), logits), rounds=3, work=work)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_forward_and_backward_in_low_precision(timing: Timing, device: str, dtype: str, row: str) -> None:
    """We compute in float32; torchvision's formula rounds each of its steps to 16 bits."""
    count = 22400
    logits, loss = loss_of(row, count, device, {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype])
    group = f"sigmoid_focal_loss forward and backward, {count} x {CLASSES}, sum, {dtype}"
    work = moved_work([logits, logits], 8 * count + size_of(logits))
    timing(group, row, lambda: torch.autograd.grad(loss(), logits), rounds=3, work=work)
