"""Deformable convolution v2 against torchvision and MMCV."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import ops as peer

from benchmarks.peers import mmcv_ops
from benchmarks.timing import Timing
from benchmarks.work import convolution_work
from fastdet import ops

PEERS = ("torchvision, NCHW", "mmcv, NCHW")
ROWS = (*PEERS, "fastdet, NCHW", "fastdet, channels last")
SIZES = ((64, 50, 84), (256, 50, 84), (256, 100, 168))


def convolution(row: str) -> Callable[..., Tensor]:
    """A row's convolution of features, offset, weight and mask."""
    if row.startswith("mmcv"):
        mmcv = mmcv_ops()
        return lambda features, offset, weight, mask: mmcv.modulated_deform_conv2d(
            features, offset, mask, weight, None, 1, 1, 1, 1, 1
        )
    own = peer.deform_conv2d if row.startswith("torchvision") else ops.deform_conv2d
    return lambda features, offset, weight, mask: own(features, offset, weight, padding=1, mask=mask)


def arguments(row: str, channels: int, height: int, width: int, device: str) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, channels, height, width), (1, 18, height, width), (channels, channels, 3, 3), (1, 9, height, width))
    tensors = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    layout = torch.channels_last if row.endswith("last") else torch.contiguous_format
    tensors[0] = tensors[0].contiguous(memory_format=layout)
    return [tensor.requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
def test_forward(timing: Timing, device: str, channels: int, height: int, width: int, row: str) -> None:
    features, offset, weight, mask = arguments(row, channels, height, width, device)
    group = f"deform_conv2d forward, {channels} to {channels} channels, {height}x{width}, fp32"
    convolve = convolution(row)
    with torch.no_grad():
        work = convolution_work(features, offset, weight, mask, False)
        timing(group, row, lambda: convolve(features, offset, weight, mask), rounds=3, work=work)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(("channels", "height", "width"), SIZES[:2])
def test_forward_and_backward(timing: Timing, device: str, channels: int, height: int, width: int, row: str) -> None:
    tensors = arguments(row, channels, height, width, device)
    features, offset, weight, mask = tensors
    convolve = convolution(row)

    def step() -> None:
        output = convolve(features, offset, weight, mask)
        torch.autograd.grad(output.sum(), tensors)

    group = f"deform_conv2d forward and backward, {channels} to {channels} channels, {height}x{width}, fp32"
    timing(group, row, step, rounds=2, work=convolution_work(features, offset, weight, mask, True))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_forward_in_low_precision(timing: Timing, device: str, dtype: torch.dtype, row: str) -> None:
    """Offsets and masks are float32 for us; the others want one type for all and know no bfloat16."""
    if row in PEERS and dtype == torch.bfloat16:
        pytest.skip("neither torchvision nor MMCV has a bfloat16 kernel")
    if row.startswith("mmcv") and device == "cpu":
        pytest.skip("MMCV's CPU kernel takes float32 alone")
    features, offset, weight, mask = arguments(row, *SIZES[1], device)
    features, weight = features.detach().to(dtype), weight.detach().to(dtype)
    if row in PEERS:
        offset, mask = offset.to(dtype), mask.to(dtype)
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    channels, height, width = SIZES[1]
    group = f"deform_conv2d forward, {channels} to {channels} channels, {height}x{width}, {name}"
    convolve = convolution(row)
    with torch.no_grad():
        work = convolution_work(features, offset, weight, mask, False)
        timing(group, row, lambda: convolve(features, offset, weight, mask), rounds=3, work=work)
