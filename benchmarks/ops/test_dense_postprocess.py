"""Post-processing of a RetinaNet's output for two images, against torchvision's and MMDetection's own code."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import retinanet_resnet50_fpn

from benchmarks.peers import as_maps, mmdet_prediction
from benchmarks.timing import Timing, Work
from benchmarks.work import moved_work
from benchmarks.workloads import IMAGE
from fastdet import ops

STRIDES = ((8.0, 8.0), (16.0, 16.0), (32.0, 32.0), (64.0, 64.0), (128.0, 128.0))
SIZES = [(-(-IMAGE[0] // int(sy)), -(-IMAGE[1] // int(sx))) for sx, sy in STRIDES]
ANCHORS, CLASSES = 9, 80


def base_anchors() -> Tensor:
    """[5, 9, 4]: three ratios of three sizes within an octave."""
    shapes = torch.tensor([[-s / r, -s * r, s / r, s * r] for r in (0.7071, 1.0, 1.4142) for s in (1.0, 1.26, 1.59)])
    return torch.stack([2 * sx * shapes for sx, _ in STRIDES])


def head_output(device: str) -> tuple[Tensor, Tensor]:
    """Logits [2, P, 80], of which a few thousand an image are above 0.05, and deltas [2, P, 4]."""
    generator = torch.Generator().manual_seed(0)
    total = ANCHORS * sum(height * width for height, width in SIZES)
    logits = 1.2 * torch.randn(2, total, CLASSES, generator=generator) - 7
    return logits.to(device), (0.3 * torch.randn(2, total, 4, generator=generator)).to(device)


def torchvisions(logits: Tensor, deltas: Tensor, base: Tensor) -> Any:
    """`RetinaNet.postprocess_detections`, with anchors laid out beforehand."""
    network = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES).eval()
    anchors = ops.grid_anchors(base, SIZES, STRIDES)
    per_level = [height * width * ANCHORS for height, width in SIZES]
    heads = {"cls_logits": list(logits.split(per_level, 1)), "bbox_regression": list(deltas.split(per_level, 1))}
    return lambda: network.postprocess_detections(heads, [list(anchors.split(per_level))] * 2, [IMAGE] * 2)


def mmdets(logits: Tensor, deltas: Tensor) -> Any:
    """`RetinaHead.predict_by_feat`, which also lays out the anchors."""
    anchors = {"type": "AnchorGenerator", "octave_base_scale": 4, "scales_per_octave": 3, "ratios": [0.5, 1.0, 2.0],
               "strides": [s for s, _ in STRIDES]}  # fmt: skip
    loss = {"type": "FocalLoss", "use_sigmoid": True}
    head = {"num_classes": CLASSES, "anchor_generator": anchors, "loss_cls": loss,
            "bbox_coder": {"type": "DeltaXYWHBBoxCoder"}}  # fmt: skip
    nms = {"type": "nms", "iou_threshold": 0.5}
    test_cfg = {"nms_pre": 1000, "min_bbox_size": 0, "score_thr": 0.05, "nms": nms, "max_per_img": 300}
    return mmdet_prediction(
        "RetinaHead", head, test_cfg, IMAGE, [as_maps(logits, SIZES, ANCHORS), as_maps(deltas, SIZES, ANCHORS)]
    )


def fused(logits: Tensor, deltas: Tensor, base: Tensor, device: str) -> Any:
    sizes, levels = torch.tensor([IMAGE] * 2, device=device), ops.Levels(SIZES, [ANCHORS] * len(SIZES), STRIDES)

    def ours() -> ops.DetectedBoxes:
        return ops.dense_postprocess(
            logits,
            deltas,
            base,
            sizes,
            levels,
            ops.delta_code(),
            iou_threshold=0.5,
            max_output=300,
            limit=1000,
            score_threshold=0.05,
        )

    return ours


def least_work(logits: Tensor, deltas: Tensor) -> Work:
    """All logits are read, but the deltas of the candidates alone."""
    return moved_work([logits, *2 * len(SIZES) * [deltas[0, :1000]]], 2 * 300 * 28)


@pytest.mark.parametrize("row", ["torchvision", "mmdet", "fastdet"])
def test_retinanet(timing: Timing, device: str, row: str) -> None:
    (logits, deltas), base = head_output(device), base_anchors().to(device)
    ours, peer = fused(logits, deltas, base, device), torchvisions(logits, deltas, base)
    with torch.no_grad():
        found, expected = ours(), peer()
        assert found.count.tolist() == [len(e["scores"]) for e in expected]
        torch.testing.assert_close(found.scores[0], expected[0]["scores"])
        group = f"dense_postprocess, 2 images of {logits.shape[1]} anchors, {CLASSES} classes, fp32"
        rows = {"torchvision": peer, "fastdet": ours}
        run = mmdets(logits, deltas) if row == "mmdet" else rows[row]
        timing(group, row, run, rounds=4, work=least_work(logits, deltas))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_retinanet_in_low_precision(timing: Timing, device: str, dtype: str) -> None:
    """torchvision's NMS takes neither type on the CPU."""
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    logits, deltas = (said.to(low) for said in head_output(device))
    group = f"dense_postprocess, 2 images of {logits.shape[1]} anchors, {CLASSES} classes, {dtype}"
    ours = fused(logits, deltas, base_anchors().to(device), device)
    timing(group, "fastdet", ours, rounds=4, work=least_work(logits, deltas))
