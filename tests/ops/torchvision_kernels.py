"""fastdet's ops as the kernels of torchvision's: its functions, modules, autograd and models then run on them.

Dispatcher registrations hold for the whole process; `replaced` takes them back at its end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fastdet import ops


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return ops.nms(boxes, scores, iou_threshold)


def roi_align(
    features: Tensor, rois: Tensor, scale: float, out_h: int, out_w: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    return ops.roi_align([features], rois, (out_h, out_w), [scale], max(sampling_ratio, 0), aligned)


def roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    scale: float,
    out_h: int,
    out_w: int,
    batch: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    coordinates = rois.to(torch.float64 if grad.dtype == torch.float64 else torch.float32)
    return torch.ops.fastdet.roi_align_backward(
        grad, coordinates, None, [scale], batch, [height, width], max(sampling_ratio, 0), aligned, 56.0, False
    )[0]


def deform_conv2d(
    features: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor, *options: int
) -> Tensor:
    stride, padding, dilation, use_mask = options[0:2], options[2:4], options[4:6], options[-1]
    return ops.deform_conv2d(features, offset, weight, bias, stride, padding, dilation, mask if use_mask else None)


def deform_conv2d_backward(
    grad: Tensor, features: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor, *options: int
) -> tuple[Tensor, ...]:
    use_mask = options[-1]
    wide = torch.float64 if features.dtype == torch.float64 else torch.float32
    of_input, of_offset, of_mask, of_weight = torch.ops.fastdet.deform_conv2d_backward(
        grad,
        features,
        offset.to(wide),
        mask.to(wide) if use_mask else None,
        weight,
        *(list(options[start : start + 2]) for start in (0, 2, 4)),
        False,
        False,
    )
    of_mask = of_mask.to(mask.dtype) if use_mask else torch.zeros_like(mask)
    return of_input, of_weight, of_offset.to(offset.dtype), of_mask, grad.sum((0, 2, 3)).to(bias.dtype)


KERNELS = {
    "nms": nms,
    "roi_align": roi_align,
    "_roi_align_backward": roi_align_backward,
    "deform_conv2d": deform_conv2d,
    "_deform_conv2d_backward": deform_conv2d_backward,
}


@contextmanager
def replaced() -> Iterator[None]:
    """torchvision's CPU kernels are ours inside."""
    library = torch.library.Library("torchvision", "IMPL")
    try:
        for name, kernel in KERNELS.items():
            library.impl(name, kernel, "CPU", allow_override=True)
        yield
    finally:
        library._destroy()
