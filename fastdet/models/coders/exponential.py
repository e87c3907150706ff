"""The box parametrisation of FoveaBox: logarithms of distances from the centre of the reference box."""

from torch import Tensor

from fastdet.models import geometry
from fastdet.models.coders.distance import boxes_around
from fastdet.registry import CODERS

_LARGEST = 16.0  # distances are learnt between a sixteenth and sixteen times the reference box


@CODERS.register()
class ExponentialBBoxCoder:
    """Logarithms of left, top, right and bottom distance in widths of the reference box.

    Decoded boxes end a pixel before the image's border, as in MMDetection.

    Source: Kong et al., FoveaBox, equations 4 and 5.
    """

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """Logarithms [..., 4] float32 of the sides' distances from the centres of references [..., 4]."""
        points, boxes = geometry.centers(references.float()).broadcast_to(boxes[..., :2].shape), boxes.float()
        unit = (references[..., 2] - references[..., 0])[..., None]
        return (geometry.sides_from(points, boxes) / unit).clamp(1 / _LARGEST, _LARGEST).log()

    def decode(self, references: Tensor, deltas: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The boxes [..., 4] float32 that logarithms [..., 4] describe, clipped to sizes [B, 2] (H, W) less one."""
        unit = (references[..., 2] - references[..., 0])[..., None]
        return boxes_around(references, deltas.float().exp() * unit, None if sizes is None else sizes - 1)
