"""Random sampling with a fixed number of slots per image.

Letters: B images, P candidates, S slots.
"""

import torch

from fastdet.models.assigners.assignment import Assignment
from fastdet.models.samplers.selection import Selection
from fastdet.models.samplers.slots import (
    Order,
    candidate_keys,
    check_amounts,
    fill_slots,
    room_for_negatives,
    smallest,
)
from fastdet.registry import SAMPLERS


@SAMPLERS.register()
class RandomSampler:
    """Takes up to `num` candidates of each image, at most a fraction of them positive.

    Every candidate gets a key; the positives with the smallest keys are taken first, then the negatives with the
    smallest keys fill the rest. Random keys make a uniform sample; the index as key takes the first candidates, which
    equals MMDetection with the identity in place of its random permutation.

    Source: Ren et al., Faster R-CNN, section 3.1.3; Girshick, Fast R-CNN, section 2.3.

    Args:
        num: slots per image.
        pos_fraction: at most int(num * pos_fraction) positives.
        neg_pos_ub: at most this many negatives per positive (at least one is counted); negative: no bound.
        add_gt_as_proposals: for RoI stages, which put the objects before the proposals. Not used here.
        order: "random", or "index" for reproducing figures.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        *,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        order: Order = "random",
    ) -> None:
        check_amounts(num, pos_fraction, order)
        self.num = num
        self.max_positive = int(num * pos_fraction)
        self.neg_pos_ub = neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals
        self.order = order

    @torch.no_grad()
    def __call__(self, assignment: Assignment, *, generator: torch.Generator | None = None) -> Selection:
        """The sampled candidates: positives in the first slots (never beyond `max_positive`), then negatives.

        Args:
            generator: of the tensors' device; None for torch's own.
        """
        keys = candidate_keys(assignment, self.order, generator)
        positives = smallest(keys, assignment.positive, self.max_positive)
        neg_index, num_neg = smallest(keys, assignment.negative, self.num)
        num_neg = torch.minimum(num_neg, room_for_negatives(self.num, positives[1], self.neg_pos_ub))
        return fill_slots(assignment, self.num, positives, (neg_index, num_neg))
