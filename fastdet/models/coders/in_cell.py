"""The box parametrisation of YOLOv3: where in its cell the centre lies, and the size over the anchor's."""

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.registry import CODERS

_MARGIN = 1e-6


@CODERS.register()
class YOLOBBoxCoder:
    """Shift of the centre in pixels, logarithm of the size over the reference box's; nothing is clipped.

    Heads say the shift as a logit of the place in the cell: `place_of` and `shifted` lead from one to the other.

    Source: Redmon and Farhadi, YOLOv3, section 2.1.
    """

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """The deltas (x, y, w, h) [..., 4] float32 of boxes [..., 4]; sizes of 0 stay finite."""
        references, boxes = references.float(), boxes.float()
        shift = geometry.centers(boxes) - geometry.centers(references)
        ratio = (boxes[..., 2:] - boxes[..., :2]) / (references[..., 2:] - references[..., :2])
        return torch.cat((shift, ratio.clamp(min=_MARGIN).log()), dim=-1)

    def decode(self, references: Tensor, deltas: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The boxes [..., 4] float32 that deltas [..., 4] describe; sizes are not looked at."""
        references, deltas = references.float(), deltas.float()
        center = geometry.centers(references) + deltas[..., :2]
        half = (references[..., 2:] - references[..., :2]) / 2 * deltas[..., 2:].exp()
        return torch.cat((center - half, center + half), dim=-1)


def place_of(deltas: Tensor, stride: Tensor) -> Tensor:
    """The place of the centre in its cell [..., 2] in (0, 1), from deltas [..., 4] and strides [..., 1]."""
    return (deltas[..., :2] / stride + 0.5).clamp(_MARGIN, 1 - _MARGIN)


def shifted(said: Tensor, stride: Tensor) -> Tensor:
    """Deltas [..., 4] from what a head says: logits of the place and logarithms of the size [..., 4]."""
    return torch.cat(((said[..., :2].sigmoid() - 0.5) * stride, said[..., 2:]), dim=-1)
