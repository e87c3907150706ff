"""YOLOAnchorGenerator: anchors of given widths and heights around every cell's centre.

Letters: L levels, A anchors a cell, P priors (level, y, x, anchor), B images.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet import ops
from fastdet.registry import PRIORS


@PRIORS.register()
class YOLOAnchorGenerator(nn.Module):
    """Anchors as wide and high as said, of the same number at every level.

    Source: Redmon and Farhadi, YOLOv3, section 2.3.

    Args:
        strides: pixels a cell of each level.
        base_sizes: of each level: (width, height) pixels of each anchor.

    Raises:
        ValueError: another number of levels than strides; levels with different numbers of anchors.
    """

    base_anchors: Tensor

    def __init__(self, strides: Sequence[float], base_sizes: Sequence[Sequence[tuple[float, float]]]) -> None:
        super().__init__()
        if len(strides) != len(base_sizes) or len({len(level) for level in base_sizes}) != 1:
            raise ValueError(f"{len(strides)} strides need as many base_sizes, each with the same number of anchors")
        self.strides = tuple((float(s), float(s)) for s in strides)
        # made on the CPU even under another default device: values must be real for what follows
        sizes = torch.tensor(base_sizes, dtype=torch.float32, device="cpu")  # [L, A, 2]
        center = torch.tensor(self.strides, dtype=torch.float32, device="cpu")[:, None] / 2
        self.register_buffer("base_anchors", torch.cat((center - sizes / 2, center + sizes / 2), -1), persistent=False)

    def forward(self, level_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Anchors [P, 4], float32 xyxy, of levels of (H, W) cells."""
        return ops.grid_anchors(self.base_anchors.float(), level_sizes, self.strides)

    def valid(self, level_sizes: Sequence[tuple[int, int]], padded_sizes: Tensor) -> Tensor:
        """Which anchors have their cell inside the padded size [B, 2] of their own image: bool [B, P]."""
        corners = ops.grid_anchors(torch.zeros_like(self.base_anchors), level_sizes, self.strides)
        width, height = padded_sizes[:, 1, None], padded_sizes[:, 0, None]
        return (corners[:, 0] < width) & (corners[:, 1] < height)
