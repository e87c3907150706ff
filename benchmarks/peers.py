"""Peers that no package offers as one function, written with torch alone."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def attention_by_grid_sample(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Deformable attention as it runs where no kernel was built: one `grid_sample` a level, then a weighted sum.

    Args and result are those of `fastdet.ops.ms_deform_attn`.
    """
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    levels = value.split([height * width for height, width in spatial_shapes], dim=1)
    grid = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # [B * M, Q, L, P, 2]
    sampled = [
        grid_sample(
            level.flatten(2).transpose(1, 2).reshape(batch * heads, channels, *shape),
            grid[:, :, index],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        for index, (level, shape) in enumerate(zip(levels, spatial_shapes, strict=True))
    ]
    factors = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    output = (torch.stack(sampled, dim=-2).flatten(-2) * factors).sum(-1)
    return output.view(batch, heads * channels, queries).transpose(1, 2).contiguous()
