"""Assignment of 200k anchors to 50 objects in 2 images against the matrix of all pairs and MMDetection."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.peers import mmdet_part
from benchmarks.timing import Timing
from benchmarks.work import assignment_work
from benchmarks.workloads import IMAGE, spread_boxes
from fastdet import ops

STRIDES = (8, 16, 32, 64, 128)


def anchors() -> Tensor:
    """RetinaNet's 201,600 anchors: nine a cell."""
    octaves = [2 ** (step / 3) for step in range(3)]
    shapes = torch.tensor(
        [
            [-scale / ratio, -scale * ratio, scale / ratio, scale * ratio]
            for ratio in (0.7, 1.0, 1.4)
            for scale in octaves
        ]
    )
    base = torch.stack([2 * stride * shapes for stride in STRIDES])
    sizes = [(-(-IMAGE[0] // stride), -(-IMAGE[1] // stride)) for stride in STRIDES]
    return ops.grid_anchors(base, sizes, [(stride, stride) for stride in STRIDES])


def by_matrix(boxes: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """The rule of MMDetection's MaxIoUAssigner in torch, images at once."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    object_area = (objects[..., 2:] - objects[..., :2]).prod(dim=2)
    low = torch.maximum(objects[:, :, None, :2], boxes[:, :2])
    high = torch.minimum(objects[:, :, None, 2:], boxes[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=3)
    iou = shared / (object_area[..., None] + area - shared).clamp(min=1e-6)
    best, index = iou.max(dim=1)
    assigned = torch.where(best >= 0.5, index, torch.where(best < 0.4, -1, -2))
    slots = torch.arange(objects.shape[1], device=boxes.device)[:, None]
    forced = torch.where(iou == iou.amax(dim=2, keepdim=True), slots, -1).amax(dim=1)
    return torch.where(forced >= 0, forced, assigned), best


def by_mmdet(boxes: Tensor, objects: Tensor) -> Callable[[], list[Any]]:
    """MMDetection's MaxIoUAssigner, image by image as its heads call it."""
    assigner = mmdet_part(
        "TASK_UTILS", type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1
    )
    structures = pytest.importorskip("mmengine.structures")
    priors = structures.InstanceData(priors=boxes)
    images = [structures.InstanceData(bboxes=b, labels=torch.zeros(len(b), dtype=torch.int64)) for b in objects]
    return lambda: [assigner.assign(priors, image) for image in images]


@pytest.mark.parametrize("row", ["torch, matrix of pairs", "mmdet", "fastdet"])
def test_assignment(timing: Timing, device: str, row: str) -> None:
    boxes = anchors().to(device)
    objects = torch.stack([spread_boxes(50, 5), spread_boxes(50, 6)]).to(device)
    valid = torch.ones(objects.shape[:2], dtype=torch.bool, device=device)

    def ours() -> tuple[Tensor, Tensor]:
        return ops.assign_max_iou(boxes, objects, valid, positive=0.5, negative=0.4)

    assert torch.equal(ours()[0], by_matrix(boxes, objects)[0])
    function: Callable[[], Any] = ours if row == "fastdet" else lambda: by_matrix(boxes, objects)
    if row == "mmdet":
        function = by_mmdet(boxes, objects)
    group = f"assign_max_iou, {len(boxes)} anchors, 50 objects, 2 images, fp32"
    timing(group, row, function, rounds=3, work=assignment_work(boxes, 2))
