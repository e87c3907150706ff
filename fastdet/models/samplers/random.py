"""Random sampling with a fixed number of slots per image.

Letters: B images, P candidates, S slots.
"""

from typing import Literal

import torch
from torch import Tensor

from fastdet.models.assigners.assignment import Assignment
from fastdet.models.samplers.selection import Selection
from fastdet.registry import SAMPLERS

_UNUSED = torch.iinfo(torch.int32).max


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
        order: Literal["random", "index"] = "random",
    ) -> None:
        if num < 1:
            raise ValueError(f"num must be at least 1, not {num}")
        if not 0 <= pos_fraction <= 1:
            raise ValueError(f"pos_fraction must be in [0, 1], not {pos_fraction}")
        if order not in ("random", "index"):
            raise ValueError(f"order must be 'random' or 'index', not {order!r}")
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
        batch, num_candidates = assignment.gt_index.shape
        device = assignment.gt_index.device
        if self.order == "index":
            keys = torch.arange(num_candidates, dtype=torch.int32, device=device).expand(batch, -1)
        else:
            shape = (batch, num_candidates)
            keys = torch.randint(_UNUSED, shape, generator=generator, dtype=torch.int32, device=device)
        pos_index, num_pos = _smallest(keys, assignment.positive, self.max_positive)
        neg_index, num_neg = _smallest(keys, assignment.negative, self.num)
        room = self.num - num_pos
        if self.neg_pos_ub >= 0:
            room = torch.minimum(room, (num_pos.clamp(min=1) * self.neg_pos_ub).long())
        num_neg = torch.minimum(num_neg, room)

        slots = torch.arange(self.num, device=device)
        positive = slots < num_pos
        negative = ~positive & (slots < num_pos + num_neg)
        pos_index = torch.nn.functional.pad(pos_index, (0, self.num - pos_index.shape[1]))
        index = torch.where(positive, pos_index, neg_index.gather(1, (slots - num_pos).clamp(min=0)))
        index = index.masked_fill(~(positive | negative), 0)  # [B, S]
        gt_index = assignment.gt_index.gather(1, index).clamp(min=0).masked_fill(~positive, 0)
        average = (num_pos.clamp(min=1) + num_neg.clamp(min=1)).sum().float()
        return Selection(index, gt_index, positive, negative, average)


def _smallest(keys: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The candidates of the mask with the smallest keys: [B, count], padded; and how many there are, [B, 1]."""
    available = min(count, keys.shape[1])
    chosen, index = keys.masked_fill(~mask, _UNUSED).topk(available, dim=1, largest=False, sorted=True)
    found = (chosen < _UNUSED).sum(1, keepdim=True)
    return torch.nn.functional.pad(index, (0, count - available)), found
