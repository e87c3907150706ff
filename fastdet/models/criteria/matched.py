"""What an assignment asks of every prior: its label, its box, whether it counts.

Letters: B images, P priors, C classes.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fastdet.models.assigners import Assignment
from fastdet.models.losses.reduction import mean_over_ranks
from fastdet.structures import Targets


class Matched(NamedTuple):
    """The objects of the priors."""

    labels: Tensor  # [B, P] int64 in [0, C]: C for the background
    boxes: Tensor  # [B, P, 4] of the objects; zeros without one
    positive: Tensor  # [B, P] bool: answers for an object
    counted: Tensor  # [B, P] bool: answers for an object or the background


def match(assignment: Assignment, targets: Targets, num_classes: int) -> Matched:
    """Gathers labels and boxes."""
    positive = assignment.positive
    if targets.boxes.shape[1] == 0:
        zeros = torch.zeros(*positive.shape, 4, device=positive.device)
        return Matched(torch.full_like(assignment.gt_index, num_classes), zeros, positive, assignment.negative)
    slots = assignment.gt_index.clamp(min=0)
    labels = torch.where(positive, targets.labels.gather(1, slots), num_classes)
    boxes = targets.boxes.float().gather(1, slots[..., None].expand(-1, -1, 4))
    return Matched(labels, torch.where(positive[..., None], boxes, 0.0), positive, positive | assignment.negative)


def num_positive(matched: Matched, at_least: Literal["one a batch", "one an image"]) -> Tensor:
    """The positives of the batch, [] float32, as a mean over processes."""
    if at_least == "one a batch":
        return mean_over_ranks(matched.positive.sum().float()).clamp(min=1)
    return mean_over_ranks(matched.positive.sum(1).clamp(min=1).sum().float())
