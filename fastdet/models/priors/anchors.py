"""AnchorGenerator: boxes of fixed sizes and shapes around every cell.

Letters: L levels, A anchors a cell, P priors (level, y, x, anchor), B images.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet import ops
from fastdet.registry import PRIORS


@PRIORS.register()
class AnchorGenerator(nn.Module):
    """Anchors of every scale and ratio at every cell of every level.

    Cell (x, y) of a level puts its anchors around (x * stride, y * stride), plus the centre offset.

    Source: Ren et al., Faster R-CNN, section 3.1.1; octaves: Lin et al., Focal Loss, section 4.

    Args:
        strides: pixels a cell of each level, one number or (x, y).
        ratios: height divided by width; the area stays.
        scales: side of a square anchor in base sizes.
        octave_base_scale, scales_per_octave: instead of scales, base * 2^(i / n) for i below n.
        base_sizes: pixels of each level; None: its smaller stride.
        scale_major: anchors go by ratio first, then scale (True), or the other way round.
        centers: (x, y) pixels of the anchors of cell (0, 0) of each level; None: by center_offset.
        center_offset: the same in base sizes, in [0, 1].
        legacy: as in MMDetection 1.x, where boxes include their last pixel: sides and base sizes are one pixel less,
            and the anchors of cell (0, 0) have whole numbers.

    Raises:
        ValueError: both or neither of the two ways to give scales; lists of different lengths.
    """

    base_anchors: Tensor

    def __init__(
        self,
        strides: Sequence[float | tuple[float, float]],
        ratios: Sequence[float],
        *,
        scales: Sequence[float] | None = None,
        octave_base_scale: float | None = None,
        scales_per_octave: int | None = None,
        base_sizes: Sequence[float] | None = None,
        scale_major: bool = True,
        centers: Sequence[tuple[float, float]] | None = None,
        center_offset: float = 0.0,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        pairs = tuple((s, s) if isinstance(s, int | float) else (s[0], s[1]) for s in strides)
        if scales is None:
            if octave_base_scale is None or scales_per_octave is None:
                raise ValueError("AnchorGenerator needs scales, or octave_base_scale and scales_per_octave")
            scales = [octave_base_scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave)]
        elif octave_base_scale is not None or scales_per_octave is not None:
            raise ValueError("AnchorGenerator takes scales, or octave_base_scale and scales_per_octave, not both")
        for name, values in (("base_sizes", base_sizes), ("centers", centers)):
            if values is not None and len(values) != len(pairs):
                raise ValueError(f"{name} has {len(values)} entries for {len(pairs)} strides")
        if not 0 <= center_offset <= 1 or (center_offset and centers is not None):
            raise ValueError(f"center_offset must be in [0, 1], and 0 if centers are given, not {center_offset}")
        sizes = [min(pair) for pair in pairs] if base_sizes is None else list(base_sizes)
        if centers is None:
            centers = [(center_offset * (size - legacy), center_offset * (size - legacy)) for size in sizes]
        self.strides = pairs
        # made on the CPU even under another default device: values must be real for what follows
        base = torch.stack(
            [_base_anchors(s, scales, ratios, center, scale_major) for s, center in zip(sizes, centers, strict=True)]
        )
        if legacy:
            base = with_last_pixel_inside(base)
        self.register_buffer("base_anchors", base, persistent=False)  # [L, A, 4]

    @property
    def num_anchors(self) -> int:
        """Anchors a cell."""
        return self.base_anchors.shape[1]

    def forward(self, level_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Anchors [P, 4], float32 xyxy, of levels of (H, W) cells.

        Raises:
            ValueError: another number of levels than strides.
        """
        self._check(level_sizes)
        return ops.grid_anchors(self.base_anchors.float(), level_sizes, self.strides)

    def valid(self, level_sizes: Sequence[tuple[int, int]], padded_sizes: Tensor) -> Tensor:
        """Which anchors have their cell inside the padded size [B, 2] of their own image: bool [B, P]."""
        self._check(level_sizes)
        corners = ops.grid_anchors(torch.zeros_like(self.base_anchors), level_sizes, self.strides)  # cells' x, y, x, y
        width, height = padded_sizes[:, 1, None], padded_sizes[:, 0, None]
        return (corners[:, 0] < width) & (corners[:, 1] < height)

    def _check(self, level_sizes: Sequence[tuple[int, int]]) -> None:
        if len(level_sizes) != len(self.strides):
            raise ValueError(
                f"AnchorGenerator has {len(self.strides)} strides, {self.strides}, but the features "
                f"have {len(level_sizes)} levels: give one stride a level"
            )


def with_last_pixel_inside(anchors: Tensor) -> Tensor:
    """Anchors [..., 4] with sides one pixel less and whole corners."""
    return torch.cat((anchors[..., :2] + 0.5, anchors[..., 2:] - 0.5), dim=-1).round()


def _base_anchors(
    size: float, scales: Sequence[float], ratios: Sequence[float], center: tuple[float, float], scale_major: bool
) -> Tensor:
    """Anchors [A, 4] of cell (0, 0)."""
    scale = torch.tensor(scales, dtype=torch.float32, device="cpu")
    height_ratio = torch.tensor(ratios, dtype=torch.float32, device="cpu").sqrt()
    width_ratio = 1 / height_ratio
    if scale_major:
        widths = (size * width_ratio[:, None] * scale).flatten()
        heights = (size * height_ratio[:, None] * scale).flatten()
    else:
        widths = (size * scale[:, None] * width_ratio).flatten()
        heights = (size * scale[:, None] * height_ratio).flatten()
    x, y = center
    return torch.stack((x - 0.5 * widths, y - 0.5 * heights, x + 0.5 * widths, y + 0.5 * heights), dim=-1)
