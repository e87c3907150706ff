"""What dense heads say, flattened over levels.

Letters: B images, P priors of all levels (level, y, x, anchor), C class channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class DenseOutput(NamedTuple):
    """Raw predictions at every prior of every level, finest level first."""

    cls_logits: Tensor  # [B, P, C]
    box_deltas: Tensor  # [B, P, 4]
    level_sizes: tuple[tuple[int, int], ...]  # (H, W) cells of each level

    @property
    def level_lengths(self) -> tuple[int, ...]:
        """How many priors each level has."""
        cells = [height * width for height, width in self.level_sizes]
        total = sum(cells)
        return tuple(self.cls_logits.shape[1] * c // total if total else 0 for c in cells)

    @classmethod
    def from_maps(cls, cls_maps: Sequence[Tensor], box_maps: Sequence[Tensor], num_anchors: int) -> "DenseOutput":
        """Flattens maps [B, num_anchors * C, H, W] and [B, num_anchors * 4, H, W], one of each a level."""
        sizes = tuple((int(m.shape[2]), int(m.shape[3])) for m in cls_maps)
        return cls(_flatten(cls_maps, num_anchors), _flatten(box_maps, num_anchors), sizes)


def _flatten(maps: Sequence[Tensor], num_anchors: int) -> Tensor:
    """[B, A * D, H, W] of each level -> [B, P, D]."""
    rows = [m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, m.shape[1] // num_anchors) for m in maps]
    return torch.cat(rows, dim=1)
