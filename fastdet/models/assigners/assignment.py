"""What assigners return.

Letters: B images, P candidates (priors or proposals), M object slots.
"""

from typing import NamedTuple

from torch import Tensor

BACKGROUND = -1
"""Assigned to no object: a negative."""
IGNORE = -2
"""Neither positive nor negative: counts nowhere."""


class Assignment(NamedTuple):
    """The object of each candidate."""

    gt_index: Tensor  # [B, P] int64: slot of the object in [0, M), BACKGROUND or IGNORE
    overlaps: Tensor  # [B, P] float32: largest IoU with any object of the image; 0 without objects

    @property
    def positive(self) -> Tensor:
        """Candidates that answer for an object, bool [B, P]."""
        return self.gt_index >= 0

    @property
    def negative(self) -> Tensor:
        """Candidates that answer for the background, bool [B, P]."""
        return self.gt_index == BACKGROUND
