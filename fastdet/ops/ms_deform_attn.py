"""Multi-scale deformable attention: each query sums a few samples of all levels of a feature pyramid.

B images, S cells of all levels, M heads, D channels of a head, Q queries, L levels, P points.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastdet.ops.checks import check_dtype, check_shape
from fastdet.ops.roi_align import FEATURE_DTYPES


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sums bilinear samples of the values, with zeros outside of each level's map.

    Locations, weights and sums are float32 whatever the type of the values is (float64 for float64 values), under
    autocast too. Every query reads its own image alone, whatever B and Q are.

    Args:
        value: [B, S, M, D]: float32, float16, bfloat16 or float64. The levels' cells follow each other, row by row.
        spatial_shapes: (height, width) of each of the L levels, at most 16, each side below 2^24.
        sampling_locations: [B, Q, M, L, P, 2]: (x, y) as shares of the level's width and height. The corners of the map
            are (0, 0) and (1, 1); a location outside of the map by a cell or more, or that is not a number, counts
            nothing.
        attention_weights: [B, Q, M, L, P], as a rule positive with the sum 1 over L and P.

    Returns:
        [B, Q, M * D] in the dtype of `value`. Differentiable with respect to all tensors; the gradient is
        deterministic on the CPU. On a GPU the gradient of the values is summed atomically, which
        `torch.use_deterministic_algorithms` reports.

    Raises:
        ValueError: A shape or dtype does not fit.

    Source: Zhu et al., "Deformable DETR" (ICLR 2021), eq. 3.
    """
    check_shape("value", value, None, None, None, None)
    check_dtype("value", value, *FEATURE_DTYPES)
    cells = sum(height * width for height, width in spatial_shapes)
    if value.shape[1] != cells:
        raise ValueError(f"`value` must have the {cells} cells of `spatial_shapes`, got {value.shape[1]}")
    batch, _, heads, _ = value.shape
    check_shape("sampling_locations", sampling_locations, batch, None, heads, len(spatial_shapes), None, 2)
    check_shape("attention_weights", attention_weights, *sampling_locations.shape[:5])
    coordinate_dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
    return torch.ops.fastdet.ms_deform_attn(
        value,
        [side for shape in spatial_shapes for side in shape],
        sampling_locations.to(coordinate_dtype),
        attention_weights.to(coordinate_dtype),
    )


@torch.library.register_fake("fastdet::ms_deform_attn")
def _ms_deform_attn_fake(value: Tensor, sizes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@torch.library.register_fake("fastdet::ms_deform_attn_backward")
def _ms_deform_attn_backward_fake(
    grad: Tensor, value: Tensor, sizes: list[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), locations.new_empty(locations.shape), weights.new_empty(weights.shape)


def _setup_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.sizes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _forward_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    value, locations, weights = ctx.saved_tensors
    if grad.is_cuda:
        torch._prims_common.alert_not_deterministic("fastdet::ms_deform_attn_backward")
    of_value, of_locations, of_weights = torch.ops.fastdet.ms_deform_attn_backward(
        grad, value, ctx.sizes, locations, weights
    )
    return of_value, None, of_locations, of_weights


torch.library.register_autograd("fastdet::ms_deform_attn", _forward_gradient, setup_context=_setup_forward)
