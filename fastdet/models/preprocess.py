"""Preprocess: what happens to pixels before the backbone.

Letters: B images, H and W pixels of the padded batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.batch_resize import BatchSyncRandomResize
from fastdet.registry import LAYERS
from fastdet.structures import Batch


@LAYERS.register()
class Preprocess(nn.Module):
    """Normalises BGR pixels in 0..255; what is padding becomes 0 afterwards.

    Args:
        mean, std: of each channel, in the order that the network sees (RGB if `to_rgb`).
        to_rgb: swap the channels first.
        pad_divisor: batches are padded to multiples of it; the collate function reads it here.
        train_size: (H, W) that training batches are padded to at least; None: no such padding.
        resize: resizes training batches; None: they keep their size.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        *,
        to_rgb: bool = False,
        pad_divisor: int = 1,
        train_size: tuple[int, int] | None = None,
        resize: BatchSyncRandomResize | None = None,
    ) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != 3:
                raise ValueError(f"{name} needs three numbers, not {tuple(values)}")
        if pad_divisor < 1:
            raise ValueError(f"pad_divisor must be at least 1, not {pad_divisor}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.to_rgb = to_rgb
        self.pad_divisor = pad_divisor
        self.train_size = train_size
        self.resize = resize

    def forward(self, pixels: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Normalised float32 pixels [B, 3, H, W].

        Args:
            pixels: [B, 3, H, W], BGR, 0..255, uint8 or float.
            sizes: [B, 2] (H, W) of the images without padding; None if nothing is padding.
        """
        pixels = pixels.float()
        if self.to_rgb:
            pixels = pixels.flip(1)
        pixels = (pixels - self.mean) / self.std
        if sizes is not None:
            rows = torch.arange(pixels.shape[2], device=pixels.device) < sizes[:, :1]  # [B, H]
            columns = torch.arange(pixels.shape[3], device=pixels.device) < sizes[:, 1:]  # [B, W]
            pixels = torch.where(rows[:, None, :, None] & columns[:, None, None, :], pixels, 0.0)
        if self.training and self.train_size is not None:
            height, width = self.train_size
            pixels = F.pad(pixels, (0, max(0, width - pixels.shape[3]), 0, max(0, height - pixels.shape[2])))
        return pixels

    def augment(self, batch: Batch) -> Batch:
        """What happens to a training batch as a whole before all else."""
        return batch if self.resize is None or not self.training else self.resize(batch)

    def padded_sizes(self, sizes: Tensor) -> Tensor:
        """The size [B, 2] that each image alone would be padded to; anchors outside it take no part in training."""
        padded = (sizes + self.pad_divisor - 1) // self.pad_divisor * self.pad_divisor
        if self.training and self.train_size is not None:
            height, width = self.train_size
            padded = torch.stack((padded[:, 0].clamp(min=height), padded[:, 1].clamp(min=width)), dim=1)
        return padded
