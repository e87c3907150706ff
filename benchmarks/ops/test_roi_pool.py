"""roi_pool of one level against torchvision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision import ops as peer

from benchmarks.timing import Timing
from benchmarks.work import cell_pooling_work
from benchmarks.workloads import pyramid, rois
from fastdet import ops

ROWS = ("torchvision, NCHW", "fastdet, NCHW", "fastdet, channels last")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pooling(row: str, dtype: torch.dtype, device: str) -> tuple[Tensor, Callable[[], Tensor]]:
    """RoIs are float32 for us; torchvision wants them in the features' type and knows no bfloat16."""
    if row.startswith("torchvision") and dtype == torch.bfloat16:
        pytest.skip("torchvision has no bfloat16 kernel")
    layout = torch.channels_last if row.endswith("last") else torch.contiguous_format
    feature = pyramid(256, dtype, device)[2].contiguous(memory_format=layout).requires_grad_()
    boxes = rois(128, device)
    if row.startswith("torchvision"):
        return feature, lambda: peer.roi_pool(feature, boxes.to(dtype), 7, 1 / 16)
    return feature, lambda: ops.roi_pool([feature], boxes, 7, [1 / 16])


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward(timing: Timing, device: str, dtype: str, row: str) -> None:
    feature, pool = pooling(row, DTYPES[dtype], device)
    work = cell_pooling_work(feature, rois(128, "cpu"), 7, 16, False)
    with torch.no_grad():
        timing(f"roi_pool forward, 128 RoIs, 256 channels, 7x7, stride 16, {dtype}", row, pool, work=work)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_backward(timing: Timing, device: str, dtype: str, row: str) -> None:
    feature, pool = pooling(row, DTYPES[dtype], device)
    pooled = pool()
    slope = torch.ones_like(pooled)
    timing(
        f"roi_pool backward, 128 RoIs, 256 channels, 7x7, stride 16, {dtype}",
        row,
        lambda: torch.autograd.grad(pooled, feature, slope, retain_graph=True),
        rounds=4,
        work=cell_pooling_work(feature, rois(128, "cpu"), 7, 16, True),
    )
