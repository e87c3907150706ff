"""Boxes as the distances of their sides from a point, plain or as distributions.

Letters: R + 1 bins.
"""

import torch
from torch import Tensor, nn

from fastdet.models import geometry
from fastdet.ops import BoxCode, distance_code, distribution_code
from fastdet.registry import CODERS


@CODERS.register()
class DistancePointBBoxCoder:
    """Left, top, right and bottom distance from the centre of the reference box.

    Source: Tian et al., FCOS, equation 1.

    Args:
        clip_border: whether decoded boxes are clipped to the image when its size is given.
        in_strides: distances are in widths of the reference box (a cell: its stride) instead of pixels.
    """

    def __init__(self, clip_border: bool = True, *, in_strides: bool = False) -> None:
        self.clip_border = clip_border
        self.in_strides = in_strides

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """Distances [..., 4] float32 of the boxes' sides from the centres of references [..., 4]."""
        distances = geometry.sides_from(*_broadcast(geometry.centers(references.float()), boxes.float()))
        return distances / _unit(references) if self.in_strides else distances

    def decode(self, references: Tensor, deltas: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The boxes [..., 4] float32 that distances [..., 4] describe, clipped to sizes [B, 2] (H, W)."""
        distances = deltas.float() * _unit(references) if self.in_strides else deltas.float()
        return boxes_around(references, distances, sizes if self.clip_border else None)

    def box_code(self) -> BoxCode:
        """The coder as the kernels of post-processing know it."""
        return distance_code(1.0 if self.in_strides else 0.0, clips=self.clip_border)


class Integral(nn.Module):
    """The mean of distributions over 0, 1, ..., R. Key: `project`, the bins; the detector keeps it in its head."""

    project: Tensor

    def __init__(self, reg_max: int) -> None:
        super().__init__()
        self.register_buffer("project", torch.arange(reg_max + 1, dtype=torch.float32))

    def forward(self, logits: Tensor) -> Tensor:
        """Logits [..., R + 1] -> [...]."""
        return logits.softmax(-1) @ self.project


@CODERS.register()
class DistributionBBoxCoder:
    """Each distance as a distribution over R + 1 multiples of the stride, whose mean it is.

    Source: Li et al., Generalized Focal Loss, section 3.2, equation 4.

    Args:
        reg_max: R.
        cells: how many strides a reference box is wide (an anchor's scale).
        clip_border: whether decoded boxes are clipped to the image when its size is given.
    """

    def __init__(self, reg_max: int = 16, *, cells: float = 1.0, clip_border: bool = True) -> None:
        self.reg_max = reg_max
        self.integral = Integral(reg_max)
        self.cells = cells
        self.clip_border = clip_border

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """Distances [..., 4] in strides, at most a tenth below the last bin."""
        distances = geometry.sides_from(*_broadcast(geometry.centers(references.float()), boxes.float()))
        return (distances / self._stride(references)).clamp(0, self.reg_max - 0.1)

    def decode(self, references: Tensor, deltas: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The boxes [..., 4] float32 that logits [..., 4 * (R + 1)] describe, clipped to sizes [B, 2] (H, W)."""
        distances = self.integral(self.distributions(deltas).float())
        return boxes_around(references, distances * self._stride(references), sizes if self.clip_border else None)

    def distributions(self, deltas: Tensor) -> Tensor:
        """Logits [..., 4 * (R + 1)] of each side: [..., 4, R + 1]."""
        return deltas.unflatten(-1, (4, self.reg_max + 1))

    def box_code(self) -> BoxCode:
        """The coder as the kernels of post-processing know it; its bins are 0, 1, ..., R."""
        return distribution_code(1.0 / self.cells, clips=self.clip_border)

    def _stride(self, references: Tensor) -> Tensor:
        return _unit(references) / self.cells


def boxes_around(references: Tensor, distances: Tensor, sizes: Tensor | None) -> Tensor:
    """Boxes [..., 4] with sides at distances [..., 4] from the centres of references, clipped to sizes [B, 2]."""
    points = geometry.centers(references.float())
    boxes = torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)
    if sizes is None:
        return boxes
    limits = sizes.to(boxes.dtype).flip(-1).repeat(1, 2)  # W, H, W, H
    return torch.minimum(boxes.clamp(min=0), limits.view(-1, *[1] * (boxes.dim() - 2), 4))


def _unit(references: Tensor) -> Tensor:
    """Width and height, twice: what distances to the four sides are measured in, [..., 4]."""
    size = references[..., 2:].float() - references[..., :2].float()
    return torch.cat((size, size), dim=-1)


def _broadcast(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Points [..., 2] and boxes [..., 4] with equal leading dimensions."""
    shape = torch.broadcast_shapes(points.shape[:-1], boxes.shape[:-1])
    return points.expand(*shape, 2), boxes.expand(*shape, 4)
