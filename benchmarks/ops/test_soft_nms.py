"""soft_nms against MMCV, where that is installed: torchvision has none."""

import pytest
import torch

from benchmarks.peers import mmcv_ops
from benchmarks.timing import Timing
from benchmarks.work import nms_work
from benchmarks.workloads import clustered_boxes
from fastdet import ops
from fastdet.ops.soft_nms import SoftNmsMethod


@pytest.mark.parametrize("row", ["mmcv", "fastdet"])
@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("count", [1000, 5000])
def test_soft_nms_of_clustered_boxes(timing: Timing, device: str, count: int, method: SoftNmsMethod, row: str) -> None:
    boxes, scores = clustered_boxes(count, 2).to(device), torch.rand(count).to(device)
    work = nms_work(boxes, scores)
    group = f"soft_nms, {method}, {count} clustered boxes, fp32"
    if row == "mmcv":
        peer = mmcv_ops()
        timing(group, row, lambda: peer.soft_nms(boxes, scores, 0.5, 0.5, 0.05, method), work=work)
    else:
        own = lambda: ops.soft_nms(boxes, scores, 0.5, sigma=0.5, min_score=0.05, method=method)  # noqa: E731
        timing(group, row, own, work=work)
