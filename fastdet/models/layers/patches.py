"""Pictures as maps of patches, and maps made coarser patch by patch. Maps are channels-last: [B, H, W, C].

Letters: B images, C channels, H and W cells.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers.norm import NormFactory


class PatchEmbedding(nn.Module):
    """A strided convolution and a norm. Keys: projection, norm.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, section 3.1; overlapping: Wang et al., PVT v2, 3.2.

    Args:
        padding: zeros at every side; None: as many at the right and bottom as a multiple of the stride needs.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        *,
        norm: NormFactory | None,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.fills_corner = padding is None
        self.projection = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding or 0)
        self.norm = nn.Identity() if norm is None else norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, H', W', out_channels]."""
        if self.fills_corner:
            stride = self.projection.stride[0]
            x = F.pad(x, (0, -x.shape[3] % stride, 0, -x.shape[2] % stride))
        return self.norm(self.projection(x).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Squares of 2 x 2 cells as one cell of more channels; borders are filled up with zeros. Keys: norm, reduction.

    A new cell's channels are ordered channel by channel, then row by row of the square.
    Source: Liu et al., Swin Transformer, section 3.1.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: NormFactory | None) -> None:
        super().__init__()
        self.norm = nn.Identity() if norm is None else norm(4 * in_channels)
        self.reduction = nn.Linear(4 * in_channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), out_channels]."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        squares = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # [B, H', 2, W', 2, C]
        return self.reduction(self.norm(squares.permute(0, 1, 3, 5, 2, 4).flatten(3)))
