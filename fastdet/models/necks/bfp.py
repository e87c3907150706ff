"""BFP: all levels are balanced by their mean.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers import ConvFactory, ConvModule, NonLocal2d, NormFactory, init_xavier
from fastdet.registry import NECKS


@NECKS.register()
class BFP(nn.Module):
    """The levels' mean at one resolution, refined, is added to every level. Key: refine.

    Source: Pang et al., Libra R-CNN, section 3.2.

    Args:
        in_channels: of every level.
        num_levels: how many there are.
        refine_level: the level whose resolution the mean has.
        refine_type: what the mean goes through: nothing, a convolution or attention over all cells.

    Raises:
        ValueError: a level or type out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_levels: int,
        *,
        refine_level: int = 2,
        refine_type: Literal["conv", "non_local"] | None = None,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= refine_level < num_levels:
            raise ValueError(f"refine_level must be a level from 0 to {num_levels - 1}, not {refine_level}")
        if refine_type not in (None, "conv", "non_local"):
            raise ValueError(f"refine_type must be 'conv', 'non_local' or None, not {refine_type!r}")
        self.num_levels = num_levels
        self.refine_level = refine_level
        self.refine: nn.Module = nn.Identity()
        if refine_type == "conv":
            self.refine = ConvModule(in_channels, in_channels, 3, padding=1, conv=conv, norm=norm)
        elif refine_type == "non_local":
            self.refine = NonLocal2d(in_channels, reduction=1, use_scale=False, conv=conv, norm=norm)
        init_xavier(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As many levels [B, C, H, W], finest first, as come in.

        Raises:
            ValueError: another number of levels.
        """
        if len(levels) != self.num_levels:
            raise ValueError(f"BFP was built for {self.num_levels} levels and was given {len(levels)}")
        size = levels[self.refine_level].shape[2:]
        gathered = [
            F.adaptive_max_pool2d(x, size) if i < self.refine_level else F.interpolate(x, size=size)
            for i, x in enumerate(levels)
        ]
        mean = self.refine(sum(gathered[1:], gathered[0]) / self.num_levels)
        return tuple(
            x
            + (
                F.interpolate(mean, size=x.shape[2:])
                if i < self.refine_level
                else F.adaptive_max_pool2d(mean, x.shape[2:])
            )
            for i, x in enumerate(levels)
        )
