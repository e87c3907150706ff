"""What dense heads say, flattened over levels.

Letters: B images, P priors of all levels (level, y, x, anchor), C class channels, D numbers that describe a box.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class DenseOutput(NamedTuple):
    """Raw predictions at every prior of every level, finest level first."""

    cls_logits: Tensor  # [B, P, C]
    box_deltas: Tensor  # [B, P, D]
    level_sizes: tuple[tuple[int, int], ...]  # (H, W) cells of each level
    quality: Tensor | None = None  # [B, P] logits of how good the box is: centerness, objectness
    cell_priors: tuple[int, ...] | None = None  # priors a cell of each level; None: the same number on all
    first_deltas: Tensor | None = None  # [B, P, D] an earlier guess of the box, which `box_deltas` refine

    @property
    def level_lengths(self) -> tuple[int, ...]:
        """How many priors each level has."""
        cells = [height * width for height, width in self.level_sizes]
        if self.cell_priors is not None:
            return tuple(c * n for c, n in zip(cells, self.cell_priors, strict=True))
        total = sum(cells)
        return tuple(self.cls_logits.shape[1] * c // total if total else 0 for c in cells)

    @classmethod
    def from_maps(
        cls,
        cls_maps: Sequence[Tensor],
        box_maps: Sequence[Tensor],
        num_anchors: int | Sequence[int],
        quality_maps: Sequence[Tensor] | None = None,
        *,
        first_maps: Sequence[Tensor] | None = None,
    ) -> "DenseOutput":
        """Flattens maps [B, A * C, H, W], [B, A * D, H, W] (also of first boxes) and [B, A, H, W] of each level.

        Args:
            num_anchors: A, one for all levels or one for each.
        """
        sizes = tuple((m.shape[2], m.shape[3]) for m in cls_maps)
        counts = [num_anchors] * len(sizes) if isinstance(num_anchors, int) else list(num_anchors)
        return cls(
            flatten_maps(cls_maps, counts),
            flatten_maps(box_maps, counts),
            sizes,
            None if quality_maps is None else flatten_maps(quality_maps, counts)[..., 0],
            tuple(counts),
            None if first_maps is None else flatten_maps(first_maps, counts),
        )


def flatten_maps(maps: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """[B, A * D, H, W] of each level -> [B, P, D]."""
    pairs = zip(maps, counts, strict=True)
    rows = [m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, m.shape[1] // n) for m, n in pairs]
    return torch.cat(rows, dim=1)
