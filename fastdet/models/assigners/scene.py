"""What an assigner of a dense head may look at.

Letters: B images, P priors.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fastdet.models.assigners.assignment import Assignment
from fastdet.structures import DenseOutput, Targets


class BoxCoder(Protocol):
    """Turns what a head says at reference boxes into boxes, and back."""

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """Boxes [..., 4] as regression targets at references [..., 4]."""
        ...

    def decode(self, references: Tensor, deltas: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The boxes [..., 4] that deltas [..., D] describe, clipped to sizes [B, 2] if they are given."""
        ...


class DenseScene(NamedTuple):
    """Priors, and what the head says there. Priors without a box of their own are the boxes of their cells."""

    priors: Tensor  # [P, 4] xyxy
    candidates: Tensor | None  # [B, P] bool: those that take part; None: all do
    coder: BoxCoder
    output: DenseOutput

    @property
    def batch(self) -> int:
        """B."""
        return self.output.cls_logits.shape[0]

    def per_level(self, values: tuple[float, ...]) -> Tensor:
        """One number of each level, at each prior: [P] float32."""
        lengths = self.output.level_lengths
        device = self.priors.device
        return torch.cat([torch.full((n,), float(v), device=device) for n, v in zip(lengths, values, strict=True)])


class DenseAssigner(Protocol):
    """Says which object each prior answers for, from all that is known of a batch."""

    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment: ...
