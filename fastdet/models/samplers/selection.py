"""What samplers return.

Letters: B images, P candidates, S slots.
"""

from typing import NamedTuple

from torch import Tensor


class Selection(NamedTuple):
    """The candidates that a loss looks at, in slots: first the positives, then the negatives, then padding.

    Where every candidate keeps its place (no sampling), `candidate` is None, S is P, and the order is the candidates'.
    """

    candidate: Tensor | None  # [B, S] int64 candidate of each slot, 0 in padding; None: slot s is candidate s
    gt_index: Tensor  # [B, S] int64 object slot of the positives, 0 elsewhere (safe to gather with)
    positive: Tensor  # [B, S] bool
    negative: Tensor  # [B, S] bool
    average: Tensor  # [] float32: what losses are divided by, counted over the batch

    @property
    def valid(self) -> Tensor:
        """Slots that are not padding, bool [B, S]."""
        return self.positive | self.negative

    def take(self, values: Tensor) -> Tensor:
        """The slots' rows of values [B, P, D], or [P, D] shared by the images: [B, S, D]."""
        if values.dim() == 2:
            values = values.expand(self.positive.shape[0], *values.shape)
        if self.candidate is None:
            return values
        return values.gather(1, self.candidate[..., None].expand(*self.candidate.shape, values.shape[-1]))
