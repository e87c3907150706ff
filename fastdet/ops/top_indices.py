"""The largest scores of each row, with a rule for equal ones.

B rows, N scores.
"""

import torch
from torch import Tensor

from fastdet.ops.checks import check_shape


def top_indices(scores: Tensor, number: int) -> Tensor:
    """Indices of the largest scores, descending; among equals the lower index comes first.

    `topk` leaves the order of equals open, and which of them it takes. The bits of non-negative floats order like the
    floats, so one integer holds score and index. Negative scores come after all others, in no set order.

    Args:
        scores: [B, N], float32 or narrower.
        number: how many, at most N.

    Returns:
        int64 [B, number].

    Raises:
        ValueError: A shape or the number does not fit.
    """
    check_shape("scores", scores, None, None)
    if not 0 <= number <= scores.shape[1]:
        raise ValueError(f"`number` must lie in [0, {scores.shape[1]}], the number of scores, got {number}")
    return torch.ops.fastdet.top_indices(scores, number)


@torch.library.custom_op("fastdet::top_indices", mutates_args=())
def _top_indices(scores: Tensor, number: int) -> Tensor:
    bits = scores.float().contiguous().view(torch.int32).to(torch.int64)
    keys = (bits << 32) - torch.arange(scores.shape[1], device=scores.device)
    return keys.topk(number, dim=1).indices


@_top_indices.register_fake
def _top_indices_fake(scores: Tensor, number: int) -> Tensor:
    return scores.new_empty(scores.shape[0], number, dtype=torch.int64)
