"""Attention in an exported graph: multi-scale deformable attention as gathers of four cells, plain one as products.

Letters: B images, S cells of all levels, M heads, D channels of a head, Q queries, L levels, P points.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def ms_deform_attn(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """`ops.ms_deform_attn` without GridSample, which TensorRT computes wrong for networks like those that use this op.

    All levels lie in one table of cells, so that one gather a corner serves all of them.

    Args:
        value: [B, S, M, D].
        sizes: height and width of each level in turn.
        locations: [B, Q, M, L, P, 2] (x, y) as shares of the level.
        weights: [B, Q, M, L, P].

    Returns:
        [B, Q, M * D] in the dtype of `value`; sums are float32.
    """
    heights, widths = (torch.tensor(sizes[axis::2]) for axis in (0, 1))
    cells = [height * width for height, width in zip(sizes[::2], sizes[1::2], strict=True)]
    starts = torch.tensor([sum(cells[:i]) for i in range(len(cells))])[:, None]  # [L, 1]
    width, height = widths[:, None], heights[:, None]
    x = locations[..., 0] * width.to(locations.dtype) - 0.5  # [B, Q, M, L, P], in cells
    y = locations[..., 1] * height.to(locations.dtype) - 0.5
    heads = value.shape[2]
    table = value.permute(0, 2, 1, 3).flatten(0, 2)  # [B * M * S, D]
    image = torch.arange(value.shape[0])[:, None] * heads + torch.arange(heads)  # [B, M]
    first = starts + (image * sum(cells))[:, None, :, None, None]  # [B, 1, M, L, 1]
    low_x, low_y = torch.floor(x), torch.floor(y)
    zero = torch.zeros((), dtype=x.dtype)
    total: Tensor | None = None
    for down in (0, 1):
        for right in (0, 1):
            cell_x, cell_y = low_x + right, low_y + down
            inside = (cell_x >= 0) & (cell_x < width) & (cell_y >= 0) & (cell_y < height)  # not of what is no number
            share = weights * (1 - (x - cell_x).abs()) * (1 - (y - cell_y).abs())
            place = torch.where(inside, cell_y, zero).long() * width + torch.where(inside, cell_x, zero).long() + first
            seen = table[place].float().flatten(3, 4)  # [B, Q, M, L * P, D]
            corner = torch.where(inside, share, zero).float().flatten(3)[..., None, :] @ seen  # [B, Q, M, 1, D]
            total = corner if total is None else total + corner
    assert total is not None
    return total.squeeze(3).flatten(2).to(value.dtype)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`F.scaled_dot_product_attention` of any number of leading dimensions; its translation by torch knows two alone.

    Args:
        query, key, value: [..., N, D], [..., S, D] and [..., S, E].
        attn_mask: added to the similarities [..., N, S], or where it is False, nothing is seen.
        dropout_p, is_causal, enable_gqa: as no detector that predicts has them.

    Returns:
        [..., N, E]; the shares are computed in float32.

    Raises:
        NotImplementedError: an argument as no detector has it.
    """
    if dropout_p or is_causal or enable_gqa:
        raise NotImplementedError("attention with dropout, causal or with groups of queries")
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    similar = ((query * factor) @ key.transpose(-2, -1)).float()
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        similar = similar.masked_fill(~attn_mask, -torch.inf) if hidden else similar + attn_mask
    return similar.softmax(-1).to(value.dtype) @ value
