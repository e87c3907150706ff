"""paste_masks of 100 instances against torchvision's pasting, with the comparison with 0.5 that follows it."""

import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from benchmarks.timing import Timing
from benchmarks.work import moved_work
from benchmarks.workloads import IMAGE, spread_boxes
from fastdet import ops


@pytest.mark.parametrize("row", ["torchvision", "fastdet"])
@pytest.mark.parametrize("count", [10, 100])
def test_paste(timing: Timing, device: str, count: int, row: str) -> None:
    masks = torch.rand(count, 28, 28, generator=torch.Generator().manual_seed(0)).to(device)
    boxes = spread_boxes(count, 11).to(device)
    group = f"paste_masks, {count} masks of 28x28 into 800x1344, fp32"
    work = moved_work([masks, boxes], count * IMAGE[0] * IMAGE[1])
    if row == "fastdet":
        timing(group, row, lambda: ops.paste_masks(masks, boxes, IMAGE), rounds=3, work=work)
    else:
        timing(group, row, lambda: paste_masks_in_image(masks[:, None], boxes, IMAGE) >= 0.5, rounds=3, work=work)
