"""Deformable convolution, v1 (offsets) and v2 (offsets and masks).

B images, C input channels, O output channels, G groups, D offset groups, (kh, kw) kernel, T = kh * kw taps.
"""

from typing import Any

import torch
from torch import Tensor

from fastdet.ops.checks import check_dtype, check_shape
from fastdet.ops.roi_align import FEATURE_DTYPES, is_channels_last


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolution whose taps are moved by offsets, and weighted by masks, that are given for every output cell.

    Taps are bilinear samples with zeros outside of the map. Channels-last input is the fast path and gives a
    channels-last result; other input is copied to channels last first. Offsets, masks and sums are float32 whatever
    the feature type is (float64 for float64 features), under autocast too.

    Args:
        input: [B, C, H, W]: float32, float16, bfloat16 or float64.
        offset: [B, D * T * 2, h, w] in input cells: (dy, dx) of each tap, taps row by row. D divides C.
        weight: [O, C / G, kh, kw] in the dtype of `input`. G divides C and O.
        bias: [O] in the dtype of `input`.
        stride: (y, x), or one number for both.
        padding: Cells of zeros on each side.
        dilation: Cells between taps.
        mask: [B, D * T, h, w], usually in [0, 1]. None: ones, which is version 1.

    Returns:
        [B, O, h, w] in the dtype of `input`. Differentiable with respect to all tensors; the gradient is
        deterministic on the CPU. On a GPU the input's gradient is summed atomically; under
        `torch.use_deterministic_algorithms` it is summed in integers, which is slower, always gives the same, and
        makes all of it NaN where the gradient of the result or a mask is not finite.

    Raises:
        ValueError: A shape or dtype does not fit.

    Source: Dai et al., "Deformable Convolutional Networks" (ICCV 2017), eq. 2; Zhu et al., "Deformable ConvNets v2"
    (CVPR 2019), eq. 1. Arguments are those of `torchvision.ops.deform_conv2d`.
    """
    check_shape("input", input, None, None, None, None)
    check_shape("weight", weight, None, None, None, None)
    if torch.is_autocast_enabled(input.device.type):
        low = torch.get_autocast_dtype(input.device.type)
        input, weight = input.to(low), weight.to(low)
        bias = None if bias is None else bias.to(low)
    check_dtype("input", input, *FEATURE_DTYPES)
    check_dtype("weight", weight, input.dtype)
    steps, margins, gaps = _pair(stride), _pair(padding), _pair(dilation)
    taps = weight.shape[2] * weight.shape[3]
    sides = _output_size(input.shape[2:], weight.shape[2:], steps, margins, gaps)
    if weight.shape[1] == 0 or input.shape[1] % weight.shape[1] != 0:
        raise ValueError(f"`weight` {list(weight.shape)} must divide the {input.shape[1]} channels of `input`")
    if offset.dim() != 4 or offset.shape[1] == 0 or offset.shape[1] % (2 * taps) != 0:
        raise ValueError(f"`offset` must have a multiple of {2 * taps} channels, got {list(offset.shape)}")
    offset_groups = offset.shape[1] // (2 * taps)
    if input.shape[1] % offset_groups != 0:
        raise ValueError(f"the {offset_groups} groups of `offset` must divide the {input.shape[1]} channels of `input`")
    check_shape("offset", offset, input.shape[0], None, *sides)
    coordinate_dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    if mask is not None:
        check_shape("mask", mask, input.shape[0], offset_groups * taps, *sides)
        mask = mask.to(coordinate_dtype)
    if bias is not None:
        check_shape("bias", bias, weight.shape[0])
        check_dtype("bias", bias, input.dtype)
    return torch.ops.fastdet.deform_conv2d(
        input, offset.to(coordinate_dtype), mask, weight, bias, steps, margins, gaps, is_channels_last(input)
    )


def _pair(value: int | tuple[int, int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _output_size(
    size: torch.Size, kernel: torch.Size, stride: list[int], padding: list[int], dilation: list[int]
) -> list[int]:
    return [(size[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in range(2)]


@torch.library.register_fake("fastdet::deform_conv2d")
def _deform_conv2d_fake(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    channels_last: bool,
) -> Tensor:
    shape = (input.shape[0], weight.shape[0], *offset.shape[2:])
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=layout)


@torch.library.register_fake("fastdet::deform_conv2d_backward")
def _deform_conv2d_backward_fake(
    grad: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    channels_last: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return (
        torch.empty(input.shape, dtype=input.dtype, device=input.device, memory_format=layout),
        offset.new_empty(offset.shape),
        offset.new_empty(0 if mask is None else mask.shape),
        weight.new_empty(weight.shape),
    )


def _setup_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, offset, mask, weight, bias, *options = inputs
    ctx.save_for_backward(features, offset, mask, weight)
    ctx.has_bias = bias is not None
    ctx.options = options


def _forward_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    features, offset, mask, weight = ctx.saved_tensors
    of_input, of_offset, of_mask, of_weight = torch.ops.fastdet.deform_conv2d_backward(
        grad, features, offset, mask, weight, *ctx.options, torch.are_deterministic_algorithms_enabled()
    )
    of_bias = grad.sum((0, 2, 3)) if ctx.has_bias else None
    return of_input, of_offset, None if mask is None else of_mask, of_weight, of_bias, *[None] * 4


torch.library.register_autograd("fastdet::deform_conv2d", _forward_gradient, setup_context=_setup_forward)
