"""Overlaps against torchvision: matrices of all pairs, and losses of boxes and their partners."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision import ops as peer

from benchmarks.timing import Timing
from benchmarks.work import moved_work
from benchmarks.workloads import spread_boxes
from fastdet import ops

MATRICES: dict[str, dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "IoU": {"torchvision": peer.box_iou, "fastdet": ops.box_iou},
    "GIoU": {
        "torchvision": peer.generalized_box_iou,
        "fastdet": lambda first, second: ops.box_iou(first, second, kind="giou"),
    },
}
LOSSES: dict[str, dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "GIoU": {
        "torchvision": peer.generalized_box_iou_loss,
        "fastdet": lambda first, second: 1 - ops.paired_box_iou(first, second, kind="giou"),
    },
    "DIoU": {
        "torchvision": peer.distance_box_iou_loss,
        "fastdet": lambda first, second: 1 - ops.paired_box_iou(first, second, kind="diou"),
    },
    "CIoU": {
        "torchvision": peer.complete_box_iou_loss,
        "fastdet": lambda first, second: 1 - ops.paired_box_iou(first, second, kind="ciou"),
    },
}


@pytest.mark.parametrize("row", ["torchvision", "fastdet"])
@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize(("rows", "columns"), [(100, 100), (50, 22400)])
def test_matrix(timing: Timing, device: str, rows: int, columns: int, kind: str, row: str) -> None:
    first, second = spread_boxes(rows, 7).to(device), spread_boxes(columns, 8).to(device)
    work = moved_work([first, second], 4 * rows * columns)
    timing(f"box_iou, {kind}, {rows} x {columns}, fp32", row, lambda: MATRICES[kind][row](first, second), work=work)


@pytest.mark.parametrize("row", ["torchvision", "fastdet"])
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("count", [512, 22400])
def test_loss_and_gradient(timing: Timing, device: str, count: int, kind: str, row: str) -> None:
    boxes = spread_boxes(count, 9).to(device).requires_grad_()
    objects = boxes.detach() + 8 * torch.randn(count, 4, generator=torch.Generator().manual_seed(10)).to(device)

    def step() -> None:
        torch.autograd.grad(LOSSES[kind][row](boxes, objects).sum(), boxes)

    work = moved_work([boxes, objects, boxes, objects], 4 * count + 16 * count)
    timing(f"paired_box_iou loss and gradient, {kind}, {count} pairs, fp32", row, step, work=work)
