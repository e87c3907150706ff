"""The box parametrisation of YOLOX: shift from the cell's corner and logarithm of the size, in strides."""

import torch
from torch import Tensor

from fastdet.ops import BoxCode, cell_code
from fastdet.registry import CODERS


@CODERS.register()
class CellBBoxCoder:
    """Centre from the corner of the reference box, size relative to it; nothing is clipped.

    Source: Ge et al., YOLOX, section 2.1 (anchor-free).
    """

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """The deltas (x, y, w, h) [..., 4] float32 of boxes [..., 4]; sizes of 0 stay finite."""
        corner, unit = references[..., :2].float(), references[..., 2:].float() - references[..., :2].float()
        low, high = boxes[..., :2].float(), boxes[..., 2:].float()
        return torch.cat((((low + high) / 2 - corner) / unit, ((high - low) / unit + 1e-8).log()), dim=-1)

    def decode(self, references: Tensor, deltas: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The boxes [..., 4] float32 that deltas [..., 4] describe; sizes are not looked at."""
        corner, unit = references[..., :2].float(), references[..., 2:].float() - references[..., :2].float()
        center = deltas[..., :2].float() * unit + corner
        half = deltas[..., 2:].float().exp() * unit / 2
        return torch.cat((center - half, center + half), dim=-1)

    def box_code(self) -> BoxCode:
        """The coder as the kernels of post-processing know it."""
        return cell_code()
