"""nms and batched_nms against torchvision and MMCV."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torchvision import ops as peer

from benchmarks.peers import mmcv_ops
from benchmarks.timing import Timing
from benchmarks.work import nms_work
from benchmarks.workloads import clustered_boxes, spread_boxes
from fastdet import ops

ROWS = ("torchvision", "mmcv", "fastdet")


def suppression(row: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A row's nms and batched_nms."""
    if row == "torchvision":
        return peer.nms, peer.batched_nms
    if row == "fastdet":
        return ops.nms, ops.batched_nms
    mmcv = mmcv_ops()
    return mmcv.nms, lambda boxes, scores, classes, threshold: mmcv.batched_nms(
        boxes, scores, classes, {"type": "nms", "iou_threshold": threshold}
    )


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("count", [1000, 5000, 20000])
def test_nms_of_clustered_boxes(timing: Timing, device: str, count: int, row: str) -> None:
    boxes, scores = clustered_boxes(count, 2).to(device), torch.rand(count).to(device)
    nms, _ = suppression(row)
    group = f"nms, {count} clustered boxes, fp32"
    timing(group, row, lambda: nms(boxes, scores, 0.5), work=nms_work(boxes, scores))


@pytest.mark.parametrize("row", ROWS)
def test_nms_of_spread_boxes(timing: Timing, device: str, row: str) -> None:
    boxes, scores = spread_boxes(5000, 3).to(device), torch.rand(5000).to(device)
    nms, _ = suppression(row)
    group = "nms, 5000 spread boxes, fp32"
    timing(group, row, lambda: nms(boxes, scores, 0.7), work=nms_work(boxes, scores))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("count", [1000, 5000, 20000])
def test_batched_nms_of_80_classes(timing: Timing, device: str, count: int, row: str) -> None:
    boxes, scores = clustered_boxes(count, 4).to(device), torch.rand(count).to(device)
    classes = torch.randint(0, 80, (count,)).to(device)
    _, nms = suppression(row)
    group = f"batched_nms, {count} boxes of 80 classes, fp32"
    timing(group, row, lambda: nms(boxes, scores, classes, 0.5), work=nms_work(boxes, scores))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nms_in_low_precision(timing: Timing, device: str, dtype: torch.dtype) -> None:
    """Boxes are widened first. torchvision's CPU kernel takes neither type."""
    boxes, scores = clustered_boxes(5000, 2).to(device, dtype), torch.rand(5000).to(device, dtype)
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    group = f"nms, 5000 clustered boxes, {name}"
    timing(group, "fastdet", lambda: ops.nms(boxes, scores, 0.5), work=nms_work(boxes, scores))
