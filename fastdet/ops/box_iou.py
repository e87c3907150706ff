"""Overlaps of boxes: matrices of all pairs, and differentiable overlaps of boxes with their partners.

B images, M and N boxes.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from fastdet.ops.checks import check_shape

OVERLAPS = ("iou", "giou", "diou", "ciou", "iof")
"""Names of the kinds, in the order of the kernels' numbers."""


def box_iou(first: Tensor, second: Tensor, *, kind: Literal["iou", "giou", "iof"] = "iou", eps: float = 1e-6) -> Tensor:
    """The overlap of every box with every other, in one pass and without a gradient.

    "iou" is intersection over union, "giou" minus the share of the enclosing box that neither covers, "iof"
    intersection over the area of the first box. Areas are not clamped, as in MMDetection.

    Args:
        first: [M, 4] xyxy, or [B, M, 4].
        second: [N, 4] xyxy, also for batched first boxes, or [B, N, 4].
        kind: What is computed.
        eps: Smallest denominator.

    Returns:
        [M, N], or [B, M, N]: float64 where one of them is, else float32. A NaN coordinate gives NaN or 0.

    Raises:
        ValueError: A shape or the kind does not fit.

    Source: Rezatofighi et al., "Generalized Intersection over Union" (CVPR 2019), algorithm 2.
    """
    if kind not in ("iou", "giou", "iof"):
        raise ValueError(f"`kind` must be 'iou', 'giou' or 'iof', got {kind!r}")
    batched = first.dim() == 3
    check_shape("first", first, *([None] if batched else []), None, 4)
    if batched and second.dim() == 3:
        check_shape("second", second, first.shape[0], None, 4)
    else:
        check_shape("second", second, None, 4)
    dtype = _dtype(first, second)
    first, second = first.detach().to(dtype), second.detach().to(dtype)
    values = torch.ops.fastdet.box_iou(
        first if batched else first[None], second if second.dim() == 3 else second[None], OVERLAPS.index(kind), eps
    )
    return values if batched else values[0]


def paired_box_iou(
    first: Tensor, second: Tensor, *, kind: Literal["iou", "giou", "diou", "ciou"] = "iou", eps: float = 1e-6
) -> Tensor:
    """The overlap of each box with its partner.

    "iou" and "giou" as in `box_iou`. "diou" is the IoU minus the squared distance of the centres over the squared
    diagonal of the enclosing box; "ciou" is that minus a penalty of other proportions, which counts from an IoU of 0.5
    upwards and whose factor is a constant for the gradient.

    Args:
        first: [..., 4] xyxy.
        second: [..., 4] xyxy, in the same shape.
        kind: What is computed.
        eps: Smallest union, enclosing area and factor's denominator; added to heights and the squared diagonal.

    Returns:
        [...]: float64 where one of them is, else float32, under autocast too. Differentiable once with respect to both
        boxes; where coordinates are equal, the slope of a minimum or maximum is shared equally, as torch does.

    Raises:
        ValueError: A shape or the kind does not fit.

    Source: Zheng et al., "Distance-IoU Loss" (AAAI 2020), equation 7; "Enhancing Geometric Factors" (2021), equations
    10 to 12.
    """
    if kind not in OVERLAPS[:4]:
        raise ValueError(f"`kind` must be 'iou', 'giou', 'diou' or 'ciou', got {kind!r}")
    if first.dim() == 0 or first.shape[-1] != 4:
        raise ValueError(f"`first` must have shape [..., 4], got {list(first.shape)}")
    check_shape("second", second, *first.shape)
    dtype = _dtype(first, second)
    values = torch.ops.fastdet.paired_box_iou(
        first.reshape(-1, 4).to(dtype), second.reshape(-1, 4).to(dtype), OVERLAPS.index(kind), eps
    )
    return values.view(first.shape[:-1])


def _dtype(first: Tensor, second: Tensor) -> torch.dtype:
    return torch.float64 if torch.float64 in (first.dtype, second.dtype) else torch.float32


@torch.library.register_fake("fastdet::box_iou")
def _box_iou_fake(first: Tensor, second: Tensor, kind: int, eps: float) -> Tensor:
    return first.new_empty(first.shape[0], first.shape[1], second.shape[1])


@torch.library.register_fake("fastdet::paired_box_iou")
def _paired_box_iou_fake(first: Tensor, second: Tensor, kind: int, eps: float) -> Tensor:
    return first.new_empty(first.shape[0])


@torch.library.register_fake("fastdet::paired_box_iou_backward")
def _paired_box_iou_backward_fake(
    grad: Tensor, first: Tensor, second: Tensor, kind: int, eps: float
) -> tuple[Tensor, Tensor]:
    return first.new_empty(first.shape), second.new_empty(second.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    first, second, kind, eps = inputs
    ctx.save_for_backward(first, second)
    ctx.options = (kind, eps)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return *torch.ops.fastdet.paired_box_iou_backward(grad, *ctx.saved_tensors, *ctx.options), None, None


torch.library.register_autograd("fastdet::paired_box_iou", _gradient, setup_context=_setup)
