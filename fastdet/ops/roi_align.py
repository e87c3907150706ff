"""RoIAlign over all levels of a feature pyramid in one call.

B images, C channels, L levels, K RoIs, (h, w) output size.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fastdet.ops.checks import check_dtype, check_shape

FEATURE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
    finest_scale: float = 56.0,
    levels: Tensor | None = None,
    pool_mode: Literal["avg", "max"] = "avg",
) -> Tensor:
    """Pools each RoI from its pyramid level: averages of bilinear samples in a grid of bins.

    Each RoI reads one level: floor(log2(sqrt(width * height) / finest_scale + 1e-6)) clamped to [0, L), or the given
    one. Channels-last features are the fast path and give a channels-last result; other layouts are read as they lie.
    Coordinates and sums are float32 whatever the feature type is (float64 for float64 features).

    Args:
        features: L tensors [B, C, Hl, Wl] of one dtype: float32, float16, bfloat16 or float64.
        rois: [K, 5]: batch index, x1, y1, x2, y2 in input pixels.
        output_size: (h, w), or one number for both.
        spatial_scales: Cells per input pixel of each level, 1 / stride.
        sampling_ratio: Samples per bin and axis; 0 takes as many as the bin has cells.
        aligned: Shifts by half a cell, so that cell centres and pixel centres agree; False is the behaviour of
            MMDetection 1.x and Detectron.
        finest_scale: Size in input pixels from which on, doubled, RoIs go to level 1.
        levels: [K] int64, the level of each RoI.
        pool_mode: "max" takes the largest of each bin's samples, of which those outside of the map are 0, instead of
            their mean.

    Returns:
        [K, C, h, w] in the features' dtype. Differentiable with respect to the features, with a deterministic
        gradient; that of "max" goes to the first of equal samples, and is summed atomically on a GPU.

    Raises:
        ValueError: A shape, dtype, count or the mode does not fit.
        RuntimeError: On the CPU, a batch index or level is out of range. On a GPU such a RoI gives zeros.

    Source: He et al., "Mask R-CNN" (ICCV 2017), section 3; Lin et al., "Feature Pyramid Networks" (CVPR 2017), eq. 1.
    """
    features, rois, output_h, output_w = pooling_arguments(features, rois, output_size, spatial_scales, levels)
    scales = [float(scale) for scale in spatial_scales]
    options = (sampling_ratio, aligned, finest_scale, is_channels_last(features[0]))
    if pool_mode == "max":
        return torch.ops.fastdet.roi_max_pool(features, rois, levels, scales, output_h, output_w, 0, *options)[0]
    if pool_mode != "avg":
        raise ValueError(f"`pool_mode` must be 'avg' or 'max', got {pool_mode!r}")
    return torch.ops.fastdet.roi_align(features, rois, levels, scales, output_h, output_w, *options)


def pooling_arguments(
    features: Sequence[Tensor],
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    levels: Tensor | None,
) -> tuple[list[Tensor], Tensor, int, int]:
    """Features and RoIs as the kernels take them, and (h, w), after the checks that all poolings of RoIs share."""
    features = list(features)
    output_h, output_w = (output_size, output_size) if isinstance(output_size, int) else output_size
    if not features:
        raise ValueError("`features` must hold at least one level")
    check_shape("features[0]", features[0], None, None, None, None)
    check_dtype("features[0]", features[0], *FEATURE_DTYPES)
    for index, feature in enumerate(features):
        check_shape(f"features[{index}]", feature, *features[0].shape[:2], None, None)
        check_dtype(f"features[{index}]", feature, features[0].dtype)
    if len(spatial_scales) != len(features):
        raise ValueError(f"`spatial_scales` must hold {len(features)} scales, one a level, got {len(spatial_scales)}")
    check_shape("rois", rois, None, 5)
    if not rois.is_floating_point():
        raise ValueError(f"`rois` must be floating point, got {rois.dtype}")
    if levels is not None:
        check_shape("levels", levels, rois.shape[0])
        check_dtype("levels", levels, torch.int64)
    if output_h <= 0 or output_w <= 0:
        raise ValueError(f"`output_size` must be positive, got {output_size}")
    coordinate_dtype = torch.float64 if features[0].dtype == torch.float64 else torch.float32
    return features, rois.to(coordinate_dtype), output_h, output_w


def is_channels_last(feature: Tensor) -> bool:
    """Whether a [B, C, H, W] tensor lies with its channels innermost, and not in the default layout as well."""
    return feature.is_contiguous(memory_format=torch.channels_last) and not feature.is_contiguous()


def _memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


@torch.library.register_fake("fastdet::roi_align")
def _roi_align_fake(
    features: list[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    spatial_scales: list[float],
    output_h: int,
    output_w: int,
    sampling_ratio: int,
    aligned: bool,
    finest_scale: float,
    channels_last: bool,
) -> Tensor:
    shape = (rois.shape[0], features[0].shape[1], output_h, output_w)
    return torch.empty(
        shape, dtype=features[0].dtype, device=features[0].device, memory_format=_memory_format(channels_last)
    )


@torch.library.register_fake("fastdet::roi_align_backward")
def _roi_align_backward_fake(
    grad: Tensor,
    rois: Tensor,
    levels: Tensor | None,
    spatial_scales: list[float],
    batch: int,
    sizes: list[int],
    sampling_ratio: int,
    aligned: bool,
    finest_scale: float,
    channels_last: bool,
) -> list[Tensor]:
    return [
        torch.empty(
            (batch, grad.shape[1], height, width),
            dtype=grad.dtype,
            device=grad.device,
            memory_format=_memory_format(channels_last),
        )
        for height, width in zip(sizes[::2], sizes[1::2], strict=True)
    ]


def _setup_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, levels, scales, _, _, sampling_ratio, aligned, finest_scale, channels_last = inputs
    ctx.save_for_backward(rois, levels)
    ctx.batch = features[0].shape[0]
    ctx.sizes = [side for feature in features for side in feature.shape[2:]]
    ctx.options = (scales, sampling_ratio, aligned, finest_scale, channels_last)


def _forward_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    rois, levels = ctx.saved_tensors
    scales, sampling_ratio, aligned, finest_scale, channels_last = ctx.options
    gradients = torch.ops.fastdet.roi_align_backward(
        grad, rois, levels, scales, ctx.batch, ctx.sizes, sampling_ratio, aligned, finest_scale, channels_last
    )
    return gradients, *[None] * 9


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    grad, rois, levels, scales, _, _, sampling_ratio, aligned, finest_scale, channels_last = inputs
    ctx.save_for_backward(rois, levels)
    ctx.output_size = tuple(grad.shape[2:])
    ctx.options = (scales, sampling_ratio, aligned, finest_scale, channels_last)


def _backward_gradient(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    # The pooling is linear in the features, so the gradient of its gradient is the pooling itself.
    rois, levels = ctx.saved_tensors
    scales, sampling_ratio, aligned, finest_scale, channels_last = ctx.options
    grad = torch.ops.fastdet.roi_align(
        gradients, rois, levels, scales, *ctx.output_size, sampling_ratio, aligned, finest_scale, channels_last
    )
    return grad, *[None] * 9


torch.library.register_autograd("fastdet::roi_align", _forward_gradient, setup_context=_setup_forward)
torch.library.register_autograd("fastdet::roi_align_backward", _backward_gradient, setup_context=_setup_backward)
