"""The box parametrisation of MMDetection 1.x, whose boxes include their last pixel."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fastdet.models.coders.delta_xywh import DeltaXYWHBBoxCoder
from fastdet.registry import CODERS


@CODERS.register()
class LegacyDeltaXYWHBBoxCoder:
    """DeltaXYWHBBoxCoder on boxes that are half a pixel larger on each side; decoded ones keep that size.

    Source: MMDetection 1.x, with the decoding of 2.x and 3.x, which finds better boxes with weights of 1.x.

    Args:
        target_means, target_stds: as DeltaXYWHBBoxCoder's.
    """

    width: ClassVar[int] = 4

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        self.inner = DeltaXYWHBBoxCoder(target_means, target_stds)

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """The deltas [..., 4] that lead from references [..., 4] to boxes [..., 4]."""
        return self.inner.encode(_with_last_pixel(references), _with_last_pixel(boxes))

    def decode(
        self,
        references: Tensor,
        deltas: Tensor,
        sizes: Tensor | None = None,
        *,
        wh_ratio_clip: float = 16 / 1000,
    ) -> Tensor:
        """The boxes [..., 4] that deltas [..., 4] describe, clipped to the last pixels of images of sizes [B, 2]."""
        last = None if sizes is None else sizes - 1
        return self.inner.decode(_with_last_pixel(references), deltas, last, wh_ratio_clip=wh_ratio_clip)


def _with_last_pixel(boxes: Tensor) -> Tensor:
    """Boxes [..., 4], half a pixel larger on each side."""
    boxes = boxes.float()
    return torch.cat((boxes[..., :2] - 0.5, boxes[..., 2:] + 0.5), dim=-1)
