"""Balanced sampling: positives evenly over objects, negatives evenly over their IoU.

A choice is made by keys: the smallest are taken first. Balancing puts tiers in front of random keys.

Letters: B images, P candidates, S slots.
"""

from typing import Protocol

import torch
from torch import Tensor

from fastdet.models.assigners.assignment import Assignment
from fastdet.models.samplers.selection import Selection
from fastdet.models.samplers.slots import (
    Order,
    candidate_keys,
    check_amounts,
    fill_slots,
    ranks,
    ranks_in_groups,
    room_for_negatives,
    smallest,
)
from fastdet.registry import SAMPLERS

_TIER = 1 << 32  # above every random key


class Balance(Protocol):
    """Keys by which candidates are taken, from random ones."""

    def __call__(self, assignment: Assignment, keys: Tensor, wanted: Tensor) -> Tensor:
        """Keys [B, P] int64 of which the smallest `wanted` [B, 1] are taken."""
        ...


@SAMPLERS.register()
class InstanceBalancedPosSampler:
    """About as many positives of each object; what is missing comes from the others by chance.

    Source: Pang et al., Libra R-CNN, section 3.1, and MMDetection for the number: round(wanted / objects) + 1 each.
    """

    def __call__(self, assignment: Assignment, keys: Tensor, wanted: Tensor) -> Tensor:
        """Keys of positives."""
        positive = assignment.positive
        place = ranks_in_groups(keys, torch.where(positive, assignment.gt_index, -1))
        objects = (positive & (place == 0)).sum(1, keepdim=True)
        share = (wanted / objects.clamp(min=1)).round() + 1  # [B, 1]
        return keys.long() + (place >= share) * _TIER


@SAMPLERS.register()
class IoUBalancedNegSampler:
    """Negatives evenly from bins of IoU above a floor, a share of the rest from below it.

    Source: Pang et al., Libra R-CNN, section 3.1.

    Args:
        floor_thr: IoU of the floor; -1 counts as 0, as it does in MMDetection from the second image on. With 0, what
            overlaps nothing is below the floor.
        floor_fraction: share of the negatives that come from below the floor.
        num_bins: of equal width, from the floor to the largest IoU of the image.
    """

    def __init__(self, *, floor_thr: float = -1, floor_fraction: float = 0.0, num_bins: int = 3) -> None:
        if not (floor_thr >= 0 or floor_thr == -1):
            raise ValueError(f"floor_thr must be -1 or at least 0, not {floor_thr}")
        if not 0 <= floor_fraction <= 1:
            raise ValueError(f"floor_fraction must be in [0, 1], not {floor_fraction}")
        if num_bins < 1:
            raise ValueError(f"num_bins must be at least 1, not {num_bins}")
        self.floor_thr = floor_thr
        self.floor_fraction = floor_fraction
        self.num_bins = num_bins

    def __call__(self, assignment: Assignment, keys: Tensor, wanted: Tensor) -> Tensor:
        """Keys of negatives: those chosen in bins, then below the floor, then the others."""
        overlaps, negative = assignment.overlaps, assignment.negative
        floor = max(self.floor_thr, 0.0)
        above = negative & ((overlaps >= floor) if floor > 0 else (overlaps > 0))
        wanted_above = (wanted * (1 - self.floor_fraction)).long()  # [B, 1]
        step = (overlaps.amax(dim=1, keepdim=True) - floor) / self.num_bins
        bins = ((overlaps - floor) / step.clamp(min=1e-12)).floor().long()  # the largest IoU is in none
        inside = above & (bins >= 0) & (bins < self.num_bins)
        groups = torch.where(inside, bins, self.num_bins)
        share = wanted_above // self.num_bins
        place = ranks_in_groups(keys, groups)
        in_bins = keys.long() + (~inside | (place >= share)) * _TIER
        chosen = above & (ranks(in_bins + ~above * (2 * _TIER)) < wanted_above)
        below = negative & ~above
        return keys.long() + torch.where(chosen, 0, torch.where(below, 1, 2)) * _TIER


@SAMPLERS.register()
class CombinedSampler:
    """Takes up to `num` candidates of each image, at most a fraction of them positive, each kind in its own way.

    Args:
        num: slots per image.
        pos_fraction: at most int(num * pos_fraction) positives.
        pos_sampler, neg_sampler: how each kind is balanced; None: by chance.
        neg_pos_ub: at most this many negatives per positive (at least one is counted); negative: no bound.
        add_gt_as_proposals: for RoI stages, which put the objects before the proposals. Not used here.
        order: "random", or "index" for reproducing figures.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        *,
        pos_sampler: Balance | None = None,
        neg_sampler: Balance | None = None,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        order: Order = "random",
    ) -> None:
        check_amounts(num, pos_fraction, order)
        self.num = num
        self.max_positive = int(num * pos_fraction)
        self.pos_sampler = pos_sampler
        self.neg_sampler = neg_sampler
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
        wanted = torch.full((keys.shape[0], 1), self.max_positive, device=keys.device)
        pos_keys = keys if self.pos_sampler is None else self.pos_sampler(assignment, keys, wanted)
        positives = smallest(pos_keys, assignment.positive, self.max_positive)
        room = room_for_negatives(self.num, positives[1], self.neg_pos_ub)
        neg_keys = keys if self.neg_sampler is None else self.neg_sampler(assignment, keys, room)
        neg_index, num_neg = smallest(neg_keys, assignment.negative, self.num)
        return fill_slots(assignment, self.num, positives, (neg_index, torch.minimum(num_neg, room)))
