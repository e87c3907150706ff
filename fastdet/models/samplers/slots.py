"""Fixed slots from candidates with keys: what all samplers have in common.

Letters: B images, P candidates, S slots.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet.models.assigners.assignment import Assignment
from fastdet.models.samplers.selection import Selection

Order = Literal["random", "index"]
KEY_LIMIT = torch.iinfo(torch.int32).max
"""Above every key that `candidate_keys` gives."""


def check_amounts(num: int, pos_fraction: float, order: str) -> None:
    """Raises ValueError for numbers of slots that make no sense, or an unknown order."""
    if num < 1:
        raise ValueError(f"num must be at least 1, not {num}")
    if not 0 <= pos_fraction <= 1:
        raise ValueError(f"pos_fraction must be in [0, 1], not {pos_fraction}")
    if order not in ("random", "index"):
        raise ValueError(f"order must be 'random' or 'index', not {order!r}")


def candidate_keys(assignment: Assignment, order: Order, generator: torch.Generator | None) -> Tensor:
    """Keys [B, P] int32 below KEY_LIMIT by which candidates are taken, the smallest first."""
    batch, num_candidates = assignment.gt_index.shape
    device = assignment.gt_index.device
    if order == "index":
        return torch.arange(num_candidates, dtype=torch.int32, device=device).expand(batch, -1)
    shape = (batch, num_candidates)
    return torch.randint(KEY_LIMIT, shape, generator=generator, dtype=torch.int32, device=device)


def smallest(keys: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The candidates of the mask with the smallest keys: [B, count], padded; and how many there are, [B, 1]."""
    available, unused = min(count, keys.shape[1]), torch.iinfo(keys.dtype).max
    chosen, index = keys.masked_fill(~mask, unused).topk(available, dim=1, largest=False, sorted=True)
    found = (chosen < unused).sum(1, keepdim=True)
    return F.pad(index, (0, count - available)), found


def room_for_negatives(num: int, num_pos: Tensor, neg_pos_ub: float) -> Tensor:
    """How many negatives may fill the slots beside the positives [B, 1]: [B, 1]."""
    room = num - num_pos
    if neg_pos_ub >= 0:
        room = torch.minimum(room, (num_pos.clamp(min=1) * neg_pos_ub).long())
    return room


def fill_slots(
    assignment: Assignment, num: int, positives: tuple[Tensor, Tensor], negatives: tuple[Tensor, Tensor]
) -> Selection:
    """Positives in the first slots, then negatives.

    Args:
        positives, negatives: candidates [B, n] and how many of them are taken, [B, 1].
    """
    (pos_index, num_pos), (neg_index, num_neg) = positives, negatives
    slots = torch.arange(num, device=pos_index.device)
    positive = slots < num_pos
    negative = ~positive & (slots < num_pos + num_neg)
    pos_index = F.pad(pos_index, (0, num - pos_index.shape[1]))
    index = torch.where(positive, pos_index, neg_index.gather(1, (slots - num_pos).clamp(min=0)))
    index = index.masked_fill(~(positive | negative), 0)  # [B, S]
    gt_index = assignment.gt_index.gather(1, index).clamp(min=0).masked_fill(~positive, 0)
    average = (num_pos.clamp(min=1) + num_neg.clamp(min=1)).sum().float()
    return Selection(index, gt_index, positive, negative, average)


def ranks(keys: Tensor) -> Tensor:
    """The place of each key in its row, ascending, ties by index: [B, P] int64."""
    order = keys.argsort(dim=1, stable=True)
    places = torch.arange(keys.shape[1], device=keys.device).expand_as(order)
    return torch.zeros_like(order).scatter(1, order, places)


def ranks_in_groups(keys: Tensor, groups: Tensor) -> Tensor:
    """The place of each key among those of its group, ascending, ties by index: [B, P] int64.

    Args:
        keys: [B, P].
        groups: [B, P] int64.
    """
    order = (groups * keys.shape[1] + ranks(keys)).argsort(dim=1)  # groups one after another
    places = torch.arange(keys.shape[1], device=keys.device).expand_as(order)
    sorted_groups = groups.gather(1, order)
    starts = F.pad(sorted_groups[:, 1:] != sorted_groups[:, :-1], (1, 0), value=True)
    start = torch.where(starts, places, 0).cummax(dim=1).values
    return torch.zeros_like(order).scatter(1, order, places - start)
