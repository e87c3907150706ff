"""Maximum pooling of RoIs over all levels of a feature pyramid: `roi_pool`, and the "max" of `roi_align`.

B images, C channels, L levels, K RoIs, (h, w) output size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastdet.ops.roi_align import is_channels_last, pooling_arguments

ROUNDED_CELLS, CELLS = 1, 2
"""What the maximum is taken of, as the kernels number it; 0 is the samples of `roi_align`."""


def roi_pool(
    features: Sequence[Tensor],
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    *,
    rounded: bool = True,
    finest_scale: float = 56.0,
    levels: Tensor | None = None,
) -> Tensor:
    """The largest value of the cells that each bin of each RoI touches; 0 for a bin without cells.

    Args:
        features: L tensors [B, C, Hl, Wl] of one dtype: float32, float16, bfloat16 or float64.
        rois: [K, 5]: batch index, x1, y1, x2, y2 in input pixels.
        output_size: (h, w), or one number for both.
        spatial_scales: Cells per input pixel of each level, 1 / stride.
        rounded: Corners are rounded to cells, both of which belong to the RoI, as in Fast R-CNN and torchvision. Else
            they are not, and x2 and y2 lie a pixel further, as in MMCV.
        finest_scale: As for `roi_align`.
        levels: [K] int64, the level of each RoI; None: by size, as for `roi_align`.

    Returns:
        [K, C, h, w] in the features' dtype, channels last if they are. Differentiable with respect to the features, to
        the first of equal values; the gradient is deterministic on the CPU. On a GPU it is summed atomically, which
        `torch.use_deterministic_algorithms` reports.

    Raises:
        ValueError: A shape, dtype or count does not fit.
        RuntimeError: On the CPU, a batch index or level is out of range. On a GPU such a RoI gives zeros.

    Source: Girshick, "Fast R-CNN" (ICCV 2015), section 2.1.
    """
    features, rois, output_h, output_w = pooling_arguments(features, rois, output_size, spatial_scales, levels)
    return torch.ops.fastdet.roi_max_pool(
        features,
        rois,
        levels,
        [float(scale) for scale in spatial_scales],
        output_h,
        output_w,
        ROUNDED_CELLS if rounded else CELLS,
        0,
        False,
        finest_scale,
        is_channels_last(features[0]),
    )[0]


def _layout(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


@torch.library.register_fake("fastdet::roi_max_pool")
def _roi_max_pool_fake(
    features: list[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    spatial_scales: list[float],
    output_h: int,
    output_w: int,
    mode: int,
    sampling_ratio: int,
    aligned: bool,
    finest_scale: float,
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    shape, first = (rois.shape[0], features[0].shape[1], output_h, output_w), features[0]
    return (
        torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=_layout(channels_last)),
        torch.empty(shape, dtype=torch.int32, device=first.device, memory_format=_layout(channels_last)),
    )


@torch.library.register_fake("fastdet::roi_max_pool_backward")
def _roi_max_pool_backward_fake(
    grad: Tensor,
    chosen: Tensor,
    rois: Tensor,
    levels: Tensor | None,
    spatial_scales: list[float],
    batch: int,
    sizes: list[int],
    mode: int,
    sampling_ratio: int,
    aligned: bool,
    finest_scale: float,
    channels_last: bool,
) -> list[Tensor]:
    return [
        torch.empty((batch, grad.shape[1], height, width), dtype=grad.dtype, device=grad.device).to(
            memory_format=_layout(channels_last)
        )
        for height, width in zip(sizes[::2], sizes[1::2], strict=True)
    ]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, rois, levels, scales, _, _, *options = inputs
    ctx.save_for_backward(output[1], rois, levels)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.batch = features[0].shape[0]
    ctx.sizes = [side for feature in features for side in feature.shape[2:]]
    ctx.scales, ctx.options = scales, options


def _gradient(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    if grad is None:  # nobody looks at the result
        return [None] * len(ctx.scales), *[None] * 10
    chosen, rois, levels = ctx.saved_tensors
    if grad.is_cuda:
        torch._prims_common.alert_not_deterministic("fastdet::roi_max_pool_backward")
    gradients = torch.ops.fastdet.roi_max_pool_backward(
        grad, chosen, rois, levels, ctx.scales, ctx.batch, ctx.sizes, *ctx.options
    )
    return gradients, *[None] * 10


torch.library.register_autograd("fastdet::roi_max_pool", _gradient, setup_context=_setup)
