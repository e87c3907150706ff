"""Boxes that a head says as they are."""

import torch
from torch import Tensor

from fastdet.registry import CODERS


@CODERS.register()
class AbsoluteBBoxCoder:
    """Boxes in pixels, wherever they were said; nothing is clipped."""

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """The boxes [..., 4] float32."""
        return boxes.float().expand(torch.broadcast_shapes(references.shape, boxes.shape))

    def decode(self, references: Tensor, deltas: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The boxes [..., 4] float32; sizes are not looked at."""
        return deltas.float()
