"""roi_align over a pyramid against torchvision's MultiScaleRoIAlign and MMDetection's extractor."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from benchmarks.peers import mmdet_part
from benchmarks.timing import Timing
from benchmarks.work import pooling_gradient_work, pooling_work
from benchmarks.workloads import IMAGE, STRIDES, pyramid, rois
from fastdet import ops

NUM_ROIS = {"cpu": 128, "cuda": 512}
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16"}
PEERS = ("torchvision, NCHW", "mmdet, NCHW")
ROWS = (*PEERS, "fastdet, NCHW", "fastdet, channels last")


def pooling(row: str, features: list[Tensor], boxes: Tensor, sampling_ratio: int) -> Callable[[], Tensor]:
    if row.startswith("torchvision"):
        names = [str(level) for level in range(len(features))]
        pool = MultiScaleRoIAlign(names, 7, sampling_ratio)
        return lambda: pool(dict(zip(names, features, strict=True)), [boxes[:, 1:]], [IMAGE])
    if row.startswith("mmdet"):
        layer = {"type": "RoIAlign", "output_size": 7, "sampling_ratio": sampling_ratio, "aligned": False}
        extractor = mmdet_part(
            "MODELS", type="SingleRoIExtractor", roi_layer=layer, out_channels=256, featmap_strides=list(STRIDES)
        )
        return lambda: extractor(features, boxes)
    scales = [1 / stride for stride in STRIDES]
    return lambda: ops.roi_align(features, boxes, 7, scales, sampling_ratio, aligned=False)


def features_of(row: str, device: str) -> list[Tensor]:
    layout = torch.channels_last if row.endswith("last") else torch.contiguous_format
    return [feature.contiguous(memory_format=layout) for feature in pyramid(256, torch.float32, device)]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("sampling_ratio", [2, 0])
def test_forward(timing: Timing, device: str, sampling_ratio: int, row: str) -> None:
    count = NUM_ROIS[device]
    features, boxes = features_of(row, device), rois(count, device)
    pool = pooling(row, features, boxes, sampling_ratio)
    group = f"roi_align forward, {count} RoIs, 256 channels, 7x7, sampling ratio {sampling_ratio}, fp32"
    timing(group, row, pool, work=pooling_work(features, boxes, 7, sampling_ratio))


@pytest.mark.parametrize("row", ROWS)
def test_backward(timing: Timing, device: str, row: str) -> None:
    count = NUM_ROIS[device]
    features = [feature.requires_grad_() for feature in features_of(row, device)]
    pooled = pooling(row, features, rois(count, device), 2)()
    slope = torch.ones_like(pooled)
    timing(
        f"roi_align backward, {count} RoIs, 256 channels, 7x7, sampling ratio 2, fp32",
        row,
        lambda: torch.autograd.grad(pooled, features, slope, retain_graph=True),
        rounds=4,
        work=pooling_gradient_work(features, rois(count, device), 7, 2),
    )


def low_precision(row: str, dtype: torch.dtype, device: str) -> tuple[list[Tensor], Callable[[], Tensor]]:
    """RoIs are float32 for us; torchvision wants them in the features' type and knows no bfloat16."""
    if row in PEERS and dtype == torch.bfloat16:
        pytest.skip("neither torchvision nor MMCV has a bfloat16 kernel")
    if row.startswith("mmdet") and device == "cpu":
        pytest.skip("MMCV's CPU kernel takes float32 alone")
    features = [feature.to(dtype).requires_grad_() for feature in features_of(row, device)]
    boxes = rois(NUM_ROIS[device], device)
    return features, pooling(row, features, boxes.to(dtype) if row in PEERS else boxes, 2)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", NAMES)
def test_backward_in_low_precision(timing: Timing, device: str, dtype: torch.dtype, row: str) -> None:
    features, pool = low_precision(row, dtype, device)
    pooled = pool()
    slope = torch.ones_like(pooled)
    timing(
        f"roi_align backward, {NUM_ROIS[device]} RoIs, 256 channels, 7x7, sampling ratio 2, {NAMES[dtype]}",
        row,
        lambda: torch.autograd.grad(pooled, features, slope, retain_graph=True),
        rounds=3,
        work=pooling_gradient_work(features, rois(NUM_ROIS[device], device), 7, 2),
    )


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", NAMES)
def test_forward_in_low_precision(timing: Timing, device: str, dtype: torch.dtype, row: str) -> None:
    features, pool = low_precision(row, dtype, device)
    for feature in features:
        feature.requires_grad_(False)
    count = NUM_ROIS[device]
    work = pooling_work(features, rois(count, device), 7, 2)
    timing(
        f"roi_align forward, {count} RoIs, 256 channels, 7x7, sampling ratio 2, {NAMES[dtype]}", row, pool, work=work
    )
