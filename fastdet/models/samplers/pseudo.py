"""No sampling: every assigned candidate takes part."""

import torch

from fastdet.models.assigners.assignment import Assignment
from fastdet.models.samplers.selection import Selection
from fastdet.registry import SAMPLERS


@SAMPLERS.register()
class PseudoSampler:
    """Takes all positives and all negatives; losses are averaged over the positives.

    An image without positives counts as one, as in MMDetection.
    """

    def __call__(self, assignment: Assignment, *, generator: torch.Generator | None = None) -> Selection:
        """Every candidate in its place; the generator is not used."""
        positive = assignment.positive
        average = positive.sum(1).clamp(min=1).sum().float()
        return Selection(None, assignment.gt_index.clamp(min=0), positive, assignment.negative, average)
