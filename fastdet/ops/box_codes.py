"""How the numbers that a dense head says at a prior describe a box."""

import math
from collections.abc import Sequence
from typing import NamedTuple

_KINDS = ("delta", "distance", "distribution", "cell")


class BoxCode(NamedTuple):
    """A way to describe boxes, as `dense_postprocess` takes it; made by the functions of this file."""

    kind: str  # of _KINDS
    numbers: tuple[float, ...]
    clips: bool  # boxes are clipped to the image

    @property
    def number(self) -> int:
        """The kind's number in the native op."""
        return _KINDS.index(self.kind)


def delta_code(
    means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    *,
    wh_ratio_clip: float = 16 / 1000,
    center_limit: float | None = None,
    clips: bool = True,
) -> BoxCode:
    """Shift of the centre in sizes of the prior, and logarithm of the ratio of sizes: (dx, dy, dw, dh).

    Args:
        means, stds: numbers are what the head says, times `stds`, plus `means`.
        wh_ratio_clip: largest change of width or height is its inverse, and itself.
        center_limit: largest shift of the centre in pixels; then shrinking has no limit.
        clips: whether boxes are clipped to the image.

    Raises:
        ValueError: not four means and four standard deviations.

    Source: Girshick et al., "Rich feature hierarchies" (CVPR 2014), appendix C.
    """
    for name, values in (("means", means), ("stds", stds)):
        if len(values) != 4:
            raise ValueError(f"`{name}` needs four numbers (x, y, width, height), not {tuple(values)}")
    limits = (abs(math.log(wh_ratio_clip)), -1.0 if center_limit is None else center_limit)
    return BoxCode("delta", (*map(float, means), *map(float, stds), *limits), clips)


def distance_code(unit: float = 0.0, *, clips: bool = True) -> BoxCode:
    """Distances of left, top, right and bottom from the centre of the prior.

    Args:
        unit: a distance of 1 is this many widths (or heights) of the prior; 0: one pixel.
        clips: whether boxes are clipped to the image.

    Source: Tian et al., "FCOS" (ICCV 2019), eq. 1.
    """
    return BoxCode("distance", (float(unit),), clips)


def distribution_code(unit: float = 1.0, *, clips: bool = True) -> BoxCode:
    """Each distance as the mean of a distribution over 0, 1, ..., R: logits [4 * (R + 1)], side by side.

    Args:
        unit: as for `distance_code`.
        clips: whether boxes are clipped to the image.

    Source: Li et al., "Generalized Focal Loss" (NeurIPS 2020), eq. 4.
    """
    return BoxCode("distribution", (float(unit),), clips)


def cell_code() -> BoxCode:
    """Shift of the centre from the prior's upper left corner in sizes of the prior, and logarithm of its size in them.

    Source: Ge et al., "YOLOX" (2021), section 2.1.
    """
    return BoxCode("cell", (), clips=False)
