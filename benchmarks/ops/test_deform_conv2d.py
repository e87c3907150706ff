"""Deformable convolution v2 against torchvision."""

from typing import Any

import pytest
import torch
from torchvision import ops as peer

from benchmarks.timing import Timing
from benchmarks.work import convolution_work
from fastdet import ops

ROWS = {
    "torchvision, NCHW": (peer.deform_conv2d, torch.contiguous_format),
    "fastdet, NCHW": (ops.deform_conv2d, torch.contiguous_format),
    "fastdet, channels last": (ops.deform_conv2d, torch.channels_last),
}
SIZES = ((64, 50, 84), (256, 50, 84), (256, 100, 168))


def arguments(row: str, channels: int, height: int, width: int, device: str) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, channels, height, width), (1, 18, height, width), (channels, channels, 3, 3), (1, 9, height, width))
    tensors = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    tensors[0] = tensors[0].contiguous(memory_format=ROWS[row][1])
    return [tensor.requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
def test_forward(timing: Timing, device: str, channels: int, height: int, width: int, row: str) -> None:
    features, offset, weight, mask = arguments(row, channels, height, width, device)
    group = f"deform_conv2d forward, {channels} to {channels} channels, {height}x{width}, fp32"
    with torch.no_grad():
        work = convolution_work(features, offset, weight, mask, False)
        timing(group, row, lambda: ROWS[row][0](features, offset, weight, padding=1, mask=mask), rounds=3, work=work)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(("channels", "height", "width"), SIZES[:2])
def test_forward_and_backward(timing: Timing, device: str, channels: int, height: int, width: int, row: str) -> None:
    tensors = arguments(row, channels, height, width, device)
    features, offset, weight, mask = tensors

    def step() -> None:
        output = ROWS[row][0](features, offset, weight, padding=1, mask=mask)
        torch.autograd.grad(output.sum(), tensors)

    group = f"deform_conv2d forward and backward, {channels} to {channels} channels, {height}x{width}, fp32"
    timing(group, row, step, rounds=2, work=convolution_work(features, offset, weight, mask, True))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_forward_in_low_precision(timing: Timing, device: str, dtype: torch.dtype, row: str) -> None:
    """Offsets and masks are float32 for us; torchvision wants one type for all and knows no bfloat16."""
    if row.startswith("torchvision") and dtype == torch.bfloat16:
        pytest.skip("torchvision has no bfloat16 kernel")
    features, offset, weight, mask = arguments(row, *SIZES[1], device)
    features, weight = features.detach().to(dtype), weight.detach().to(dtype)
    if row.startswith("torchvision"):
        offset, mask = offset.to(dtype), mask.to(dtype)
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    channels, height, width = SIZES[1]
    group = f"deform_conv2d forward, {channels} to {channels} channels, {height}x{width}, {name}"
    with torch.no_grad():
        work = convolution_work(features, offset, weight, mask, False)
        timing(group, row, lambda: ROWS[row][0](features, offset, weight, padding=1, mask=mask), rounds=3, work=work)
