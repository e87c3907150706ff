"""Attention inside windows of a map, which may be shifted. Maps are channels-last: [B, H, W, C].

Letters: B images, C channels, H and W cells, M heads, N cells of a window, Q windows of a map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOREIGN = -100.0  # added to the attention to cells of another region; MMDetection's value, e^-100 is 0 beside 1


class WindowAttention(nn.Module):
    """Attention of the cells of a window to each other, with a learnt bias for each relative position.

    Keys: relative_position_bias_table, relative_position_index, qkv, proj.
    Source: Liu et al., Swin Transformer, equation 4.

    Args:
        window_size: side of the windows.
        qk_scale: factor of the similarities; None: one over the root of a head's channels.
        attn_drop_rate, drop_rate: of the attention and of the output.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        channels: int,
        num_heads: int,
        window_size: int,
        *,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = qk_scale or (channels // num_heads) ** -0.5
        self.attn_drop_rate = attn_drop_rate
        positions = (2 * window_size - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.zeros(positions, num_heads))
        self.register_buffer("relative_position_index", relative_positions(window_size))
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, Q, N, C] -> [B, Q, N, C].

        Args:
            mask: added to the similarities, [Q, N, N].
        """
        heads = self.qkv(windows).unflatten(3, (3, self.num_heads, -1))  # [B, Q, N, 3, M, C / M]
        query, key, value = heads.permute(3, 0, 1, 4, 2, 5).unbind(0)  # each [B, Q, M, N, C / M]
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # [M, N, N]
        if mask is not None:
            bias = bias + mask.unsqueeze(1)  # [Q, M, N, N]
        dropped = self.attn_drop_rate if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropped, scale=self.scale)
        return self.proj_drop(self.proj(out.transpose(2, 3).flatten(3)))


class ShiftedWindows(nn.Module):
    """Attention inside the windows of a map that is rolled by `shift` cells first. Key: w_msa.

    Maps are filled up with zeros to whole windows. Cells that only meet because the map was rolled do not see each
    other.
    Source: Liu et al., Swin Transformer, section 3.2.

    Args:
        shifts_small_maps: whether maps that are no larger than a window are rolled too.
    """

    def __init__(
        self, attention: WindowAttention, window_size: int, shift: int, *, shifts_small_maps: bool = True
    ) -> None:
        super().__init__()
        self.w_msa = attention
        self.window_size, self.shift = window_size, shift
        self.shifts_small_maps = shifts_small_maps

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        height, width = x.shape[1:3]
        side = self.window_size
        shift = self.shift if self.shifts_small_maps or min(height, width) > side else 0
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        whole_height, whole_width = x.shape[1:3]
        mask = None
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
            mask = foreign_mask(whole_height, whole_width, side, shift, x)
        x = from_windows(self.w_msa(to_windows(x, side), mask), side, whole_height, whole_width)
        if shift:
            x = x.roll((shift, shift), (1, 2))
        return x[:, :height, :width]


def to_windows(x: Tensor, side: int) -> Tensor:
    """[B, H, W, C] -> [B, Q, N, C], windows row by row."""
    squares = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))  # [B, H / side, side, W / side, side, C]
    return squares.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """[B, Q, N, C] -> [B, H, W, C]."""
    squares = windows.unflatten(2, (side, side)).unflatten(1, (height // side, width // side))
    return squares.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def foreign_mask(height: int, width: int, side: int, shift: int, like: Tensor) -> Tensor:
    """0 for pairs of cells of the same region of a rolled map, FOREIGN for others, [Q, N, N]."""

    def zones(size: int) -> Tensor:
        cells = torch.arange(size, device=like.device)
        return (cells >= size - side).long() + (cells >= size - shift)

    regions = 3 * zones(height)[:, None] + zones(width)
    windows = to_windows(regions[None, :, :, None], side)[0, :, :, 0]  # [Q, N]
    return (windows.unsqueeze(1) != windows.unsqueeze(2)).to(like.dtype) * FOREIGN


def relative_positions(side: int) -> Tensor:
    """For each pair of cells of a window the row of the table that holds their offset, int64 [N, N]."""
    cells = torch.arange(side)
    rows, columns = cells.repeat_interleave(side), cells.repeat(side)
    down, right = rows[:, None] - rows + side - 1, columns[:, None] - columns + side - 1
    return down * (2 * side - 1) + right
