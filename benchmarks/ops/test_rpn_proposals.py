"""Proposals of two images from a region proposal network's output, against torchvision's and MMDetection's own code."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead

from benchmarks.peers import as_maps, mmdet_prediction
from benchmarks.timing import Timing
from benchmarks.work import moved_work
from benchmarks.workloads import IMAGE
from fastdet import ops

STRIDES = ((4.0, 4.0), (8.0, 8.0), (16.0, 16.0), (32.0, 32.0), (64.0, 64.0))
SIZES = [(-(-IMAGE[0] // int(sy)), -(-IMAGE[1] // int(sx))) for sx, sy in STRIDES]
ANCHORS = 3
KEPT = 1000
IOU = 0.7


def base_anchors() -> Tensor:
    """[5, 3, 4]: squares of eight strides, and boxes of half and twice their ratio."""
    shapes = torch.tensor([[-1 / r, -r, 1 / r, r] for r in (0.7071, 1.0, 1.4142)])
    return torch.stack([4 * sx * shapes for sx, _ in STRIDES])


def head_output(device: str) -> tuple[Tensor, Tensor]:
    """Logits [2, P] and deltas [2, P, 4]: few anchors are sure, and boxes stay near their anchors."""
    generator = torch.Generator().manual_seed(0)
    total = ANCHORS * sum(height * width for height, width in SIZES)
    logits = 2 * torch.randn(2, total, generator=generator) - 4
    return logits.to(device), (0.3 * torch.randn(2, total, 4, generator=generator)).to(device)


def torchvisions(logits: Tensor, deltas: Tensor, base: Tensor) -> Any:
    """Decoding of all anchors and `filter_proposals`, with anchors laid out beforehand."""
    settings = {"training": KEPT, "testing": KEPT}
    network = RegionProposalNetwork(
        AnchorGenerator(), RPNHead(8, ANCHORS), 0.7, 0.3, 256, 0.5, settings, settings, IOU
    ).eval()
    anchors = ops.grid_anchors(base, SIZES, STRIDES)
    per_level = [height * width * ANCHORS for height, width in SIZES]

    def run() -> Any:
        boxes = network.box_coder.decode(deltas.view(-1, 4), [anchors, anchors]).view(2, -1, 4)
        return network.filter_proposals(boxes, logits.view(-1, 1), [IMAGE] * 2, per_level)

    return run


def mmdets(logits: Tensor, deltas: Tensor) -> Any:
    """`RPNHead.predict_by_feat`, which also lays out the anchors."""
    anchors = {"type": "AnchorGenerator", "scales": [8], "ratios": [0.5, 1.0, 2.0], "strides": [s for s, _ in STRIDES]}
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": True}
    head = {"anchor_generator": anchors, "bbox_coder": {"type": "DeltaXYWHBBoxCoder"}, "loss_cls": loss}
    nms = {"type": "nms", "iou_threshold": IOU}
    test_cfg = {"nms_pre": KEPT, "max_per_img": KEPT, "nms": nms, "min_bbox_size": 0}
    maps = [as_maps(logits[..., None], SIZES, ANCHORS), as_maps(deltas, SIZES, ANCHORS)]
    return mmdet_prediction("RPNHead", head, test_cfg, IMAGE, maps)


@pytest.mark.parametrize("row", ["torchvision", "mmdet", "fastdet"])
def test_rpn_proposals(timing: Timing, device: str, row: str) -> None:
    (logits, deltas), base = head_output(device), base_anchors().to(device)
    sizes = torch.tensor([IMAGE] * 2, device=device)

    def ours() -> Any:
        return ops.rpn_proposals(
            logits, deltas, base, sizes, SIZES, STRIDES, iou_threshold=IOU, max_output=KEPT, limit=KEPT, min_size=0
        )

    peer = torchvisions(logits, deltas, base)
    with torch.no_grad():
        boxes, _, count = ours()
        assert count.tolist() == [len(found) for found in peer()[0]]
        torch.testing.assert_close(boxes[0, : count[0]], peer()[0][0], rtol=1e-4, atol=1e-3)
        # All logits are read, but the deltas of the candidates alone.
        work = moved_work([logits, *2 * len(SIZES) * [deltas[0, :KEPT]]], 2 * KEPT * 20)
        group = f"rpn_proposals, 2 images of {logits.shape[1]} anchors, fp32"
        rows = {"torchvision": peer, "fastdet": ours}
        timing(group, row, mmdets(logits, deltas) if row == "mmdet" else rows[row], work=work)
