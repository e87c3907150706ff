"""The bodies of fastdet's sampling ops in an exported graph: RoIAlign and deformable convolution as gathers.

Letters: B images, C channels, L levels, R RoIs, (p, q) bins, n cells, D groups of offsets, G groups, T taps, s places.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_TERMS = 5
"""How many samples can lie within a cell of a cell, where a bin has as many samples as it is cells long: their
distance is more than half a cell, so four; one more against rounding."""


def roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    spatial_scales: Sequence[float],
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
    finest_scale: float,
    *,
    area_factor: float,
    window: int | None = None,
) -> Tensor:
    """`ops.roi_align` of RoIs inside of the image, exact for any of their shapes.

    Bins are sums of cells with weights that are products of one weight a row and one a column. All cells that a RoI
    can touch are gathered, as many as the largest RoI of any level touches, and one matrix product makes the bins.

    Args:
        area_factor: RoIs have up to this times the area that their level is for.
        window: how many cells are gathered; None: as many as `window_cells` says for these maps.

    Returns:
        [R, C, p, q].
    """
    sizes = [(level.shape[2], level.shape[3]) for level in features]
    number = window or window_cells(sizes, spatial_scales, finest_scale, area_factor)
    x1, y1, x2, y2 = rois[:, 1:].unbind(1)
    if levels is None:
        side = ((x2 - x1) * (y2 - y1)).sqrt() / finest_scale + 1e-6
        bounds = torch.tensor([2.0 ** (i + 1) for i in range(len(sizes) - 1)])
        levels = (side[:, None] >= bounds).sum(1)
    extent = torch.tensor(list(zip(*sizes, strict=True))).index_select(1, levels)  # [2, R]: heights, widths
    scale = torch.tensor(spatial_scales)[levels]
    low, high = torch.stack((y1, x1)), torch.stack((y2, x2))
    # both axes at once where they have as many bins, since that halves the graph
    together = output_size[0] == output_size[1]
    parts = [(low, high, extent)] if together else list(zip(low.split(1), high.split(1), extent.split(1), strict=True))
    axes = [_Axes(*part, scale, n, sampling_ratio, aligned) for part, n in zip(parts, output_size, strict=False)]
    first, length = torch.cat([axis.first for axis in axes]), torch.cat([axis.length for axis in axes])  # [2, R]
    cell = torch.arange(number)
    columns = length[1, :, None]
    at = first[:, :, None] + torch.stack((cell // columns, cell % columns))  # [2, R, n]: y, x
    shares = [
        share
        for axis, cells_of in zip(axes, (at,) if together else at.split(1), strict=True)
        for share in axis.weights(cells_of).unbind(0)
    ]
    in_window = (cell < (length[0] * length[1])[:, None]).to(scale.dtype)
    weights = (shares[0] * in_window[:, None])[:, :, None] * shares[1][:, None]  # [R, p, q, n]
    flat = torch.cat([level.flatten(2) for level in features], dim=2).transpose(1, 2)  # [B, cells, C]
    cells = [height * width for height, width in sizes]
    starts = torch.tensor([sum(cells[:i]) for i in range(len(cells))])
    y, x = torch.minimum(torch.maximum(at, torch.zeros((), dtype=at.dtype)), extent[:, :, None] - 1).unbind(0)
    place = (rois[:, 0].long() * sum(cells) + starts[levels])[:, None] + y * extent[1, :, None] + x
    seen = flat.reshape(-1, flat.shape[2])[place]  # [R, n, C]
    pooled = weights.flatten(1, 2).to(seen.dtype) @ seen  # [R, p * q, C]
    return pooled.transpose(1, 2).unflatten(2, output_size)


def window_cells(
    sizes: Sequence[tuple[int, int]], spatial_scales: Sequence[float], finest_scale: float, area_factor: float
) -> int:
    """The most cells that a RoI touches: any of the last level, and of the others' the longest that are not too large.

    A RoI of w x h cells touches fewer than (w + 3) * (h + 3), and no more than there are with one around the map. Of
    RoIs of one area the longest or the highest touch most.
    """
    most = 0
    for level, ((height, width), scale) in enumerate(zip(sizes, spatial_scales, strict=True)):
        whole = (height + 2) * (width + 2)
        area = (finest_scale * 2.0 ** (level + 1) * scale) ** 2 * area_factor
        if level + 1 == len(sizes) or area >= (height - 1) * (width - 1):
            most = max(most, whole)
            continue
        for side, other in ((height, width), (width, height)):
            long = side - 1.0
            across = min(area / long + 3, other + 2)
            most = max(most, min(whole, math.ceil((side + 2) * across)))
    return most


class _Axes:
    """Axes [a, R] of RoIs on maps of the given sizes [a, R]: where bins and samples are, and which cells they touch."""

    def __init__(
        self, low: Tensor, high: Tensor, size: Tensor, scale: Tensor, bins: int, sampling_ratio: int, aligned: bool
    ) -> None:
        offset = 0.5 if aligned else 0.0
        self.start = low * scale - offset
        length = (high * scale - offset) - self.start
        if not aligned:
            length = torch.maximum(length, torch.ones(()))
        self.bin = length / bins
        self.bins = bins
        self.ratio = sampling_ratio
        self.size = size
        grid = torch.maximum(torch.ceil(self.bin), torch.zeros(()))
        self.grid = grid if sampling_ratio <= 0 else torch.full_like(grid, float(sampling_ratio))
        edge, zero = size.to(low.dtype), torch.zeros(())
        first = torch.minimum(torch.maximum(torch.floor(self.start), zero - 1), edge)
        last = torch.minimum(torch.maximum(torch.floor(self.start + length) + 1, zero - 1), edge)
        self.first = first.long()  # [a, R]; a cell around the map stands for the one beside it
        self.length = torch.maximum(last - first, zero).long() + 1

    def weights(self, cells: Tensor) -> Tensor:
        """The share [a, R, p, n] of each cell [a, R, n] in each bin's average."""
        steps = torch.maximum(self.grid, torch.ones(()))
        step = self.bin / steps  # between samples
        begin = self.start[..., None] + torch.arange(self.bins) * self.bin[..., None]  # [a, R, p]
        distance = cells[..., None, :].to(begin.dtype) - begin[..., None]  # [a, R, p, n] from the bin's beginning
        grid, edge = self.grid[..., None, None], self.size.to(begin.dtype)[..., None, None]
        if self.ratio > 0:
            first, terms = torch.zeros(()), self.ratio
        else:
            reach = torch.maximum(step, torch.full((), 1e-6))[..., None, None]
            first = torch.floor((distance - 1) / reach - 0.5)
            first, terms = torch.maximum(torch.minimum(first, grid - 1), torch.zeros(())), _TERMS
        total = torch.zeros_like(distance)
        for term in range(terms):
            sample = first + term
            inside = (sample + 0.5) * self.bin[..., None, None] / steps[..., None, None]
            position = begin[..., None] + inside
            counts = (sample < grid) & (position >= -1) & (position <= edge)
            share = torch.maximum(1 - (inside - distance).abs(), torch.zeros(()))
            total = total + torch.where(counts, share, 0.0)
        return total / steps[..., None, None]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """`ops.deform_conv2d`: the four cells around each tap are gathered, weighted and multiplied with the kernel."""
    height, width = int(input.shape[2]), int(input.shape[3])
    taps = weight.shape[2] * weight.shape[3]
    groups = input.shape[1] // weight.shape[1]
    sides = (int(offset.shape[2]), int(offset.shape[3]))
    moved = offset.float().unflatten(1, (-1, taps, 2))  # [B, D, T, 2, h, w]
    y = moved[:, :, :, 0] + _grid(0, weight.shape[2:], sides, stride, padding, dilation)
    x = moved[:, :, :, 1] + _grid(1, weight.shape[2:], sides, stride, padding, dilation)
    offset_groups = int(moved.shape[1])
    # one row of C / D values a cell, images and groups one after another
    rows = input.flatten(2).unflatten(1, (offset_groups, -1)).transpose(2, 3)  # [B, D, H * W, C / D]
    rows = rows.flatten(0, 2)
    image = torch.arange(input.shape[0])[:, None] * offset_groups + torch.arange(offset_groups)
    start = (image * (height * width))[:, :, None, None, None]  # [B, D, 1, 1, 1]
    low_y, low_x = torch.floor(y), torch.floor(x)
    seen: Tensor | None = None
    for down in (0, 1):
        for right in (0, 1):
            cell_y, cell_x = low_y + down, low_x + right
            share = (1 - (y - cell_y).abs()) * (1 - (x - cell_x).abs())
            inside = (cell_y >= 0) & (cell_y < height) & (cell_x >= 0) & (cell_x < width)
            share = torch.where(inside, share, 0.0)
            if mask is not None:
                share = share * mask.float().unflatten(1, (offset_groups, taps))
            place = _within(cell_y, height).long() * width + _within(cell_x, width).long() + start
            corner = rows[place] * share[..., None].to(rows.dtype)  # [B, D, T, h, w, C / D]
            seen = corner if seen is None else seen + corner
    assert seen is not None
    columns = seen.flatten(3, 4).permute(0, 1, 4, 2, 3).flatten(1, 2)  # [B, C, T, s]
    columns = columns.unflatten(1, (groups, -1)).flatten(2, 3)  # [B, G, C / G * T, s]
    kernel = weight.flatten(1).unflatten(0, (groups, -1))  # [G, O / G, C / G * T]
    result = (kernel @ columns).flatten(1, 2).unflatten(2, sides)
    return result if bias is None else result + bias[:, None, None]


def _within(cell: Tensor, size: int) -> Tensor:
    return torch.minimum(torch.maximum(cell, torch.zeros(())), torch.full((), size - 1.0))


def _grid(
    axis: int,
    kernel: Sequence[int],
    sides: tuple[int, int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Where the taps lie without offsets on one axis, in cells: [T, h, w]."""
    tap = torch.arange(kernel[axis], dtype=torch.float32) * dilation[axis]
    output = torch.arange(sides[axis], dtype=torch.float32) * stride[axis] - padding[axis]
    if axis == 0:
        grid = tap[:, None, None, None] + output[:, None]
    else:
        grid = tap[:, None, None] + output
    return grid.expand(kernel[0], kernel[1], *sides).flatten(0, 1)
