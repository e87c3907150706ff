"""roi_pool of one level against torchvision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision import ops as peer

from benchmarks.timing import Timing
from benchmarks.workloads import pyramid, rois
from fastdet import ops

ROWS = ("torchvision, NCHW", "fastdet, NCHW", "fastdet, channels last")


def pooling(row: str, device: str) -> tuple[Tensor, Callable[[], Tensor]]:
    layout = torch.channels_last if row.endswith("last") else torch.contiguous_format
    feature = pyramid(256, torch.float32, device)[2].contiguous(memory_format=layout).requires_grad_()
    boxes = rois(128, device)
    if row.startswith("torchvision"):
        return feature, lambda: peer.roi_pool(feature, boxes, 7, 1 / 16)
    return feature, lambda: ops.roi_pool([feature], boxes, 7, [1 / 16])


@pytest.mark.parametrize("row", ROWS)
def test_forward(timing: Timing, device: str, row: str) -> None:
    _, pool = pooling(row, device)
    with torch.no_grad():
        timing("roi_pool forward, 128 RoIs, 256 channels, 7x7, stride 16, fp32", row, pool)


@pytest.mark.parametrize("row", ROWS)
def test_backward(timing: Timing, device: str, row: str) -> None:
    feature, pool = pooling(row, device)
    pooled = pool()
    slope = torch.ones_like(pooled)
    timing(
        "roi_pool backward, 128 RoIs, 256 channels, 7x7, stride 16, fp32",
        row,
        lambda: torch.autograd.grad(pooled, feature, slope, retain_graph=True),
        rounds=4,
    )
