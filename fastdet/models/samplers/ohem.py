"""Sampling by loss: the candidates that the head finds hardest."""

import torch
from torch import Tensor

from fastdet.models.assigners.assignment import Assignment
from fastdet.models.samplers.selection import Selection
from fastdet.models.samplers.slots import check_amounts, fill_slots, ranks, room_for_negatives, smallest
from fastdet.registry import SAMPLERS


@SAMPLERS.register()
class OHEMSampler:
    """Takes up to `num` candidates of each image, at most a fraction of them positive, by class loss, descending.

    Source: Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, section 4.

    Args:
        num: slots per image.
        pos_fraction: at most int(num * pos_fraction) positives.
        neg_pos_ub: at most this many negatives per positive (at least one is counted); negative: no bound.
        add_gt_as_proposals: for RoI stages, which put the objects before the proposals. Not used here.
    """

    def __init__(
        self, num: int, pos_fraction: float, *, neg_pos_ub: float = -1, add_gt_as_proposals: bool = True
    ) -> None:
        check_amounts(num, pos_fraction, "random")
        self.num = num
        self.max_positive = int(num * pos_fraction)
        self.neg_pos_ub = neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals

    @torch.no_grad()
    def __call__(self, assignment: Assignment, *, hardness: Tensor) -> Selection:
        """The hardest candidates: positives in the first slots, then negatives.

        Args:
            hardness: class loss of each candidate, [B, P].
        """
        keys = ranks(-hardness)
        positives = smallest(keys, assignment.positive, self.max_positive)
        neg_index, num_neg = smallest(keys, assignment.negative, self.num)
        num_neg = torch.minimum(num_neg, room_for_negatives(self.num, positives[1], self.neg_pos_ub))
        return fill_slots(assignment, self.num, positives, (neg_index, num_neg))
