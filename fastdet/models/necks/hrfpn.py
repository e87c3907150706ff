"""HRFPN: a pyramid from the branches of an HRNet.

Letters: B images, H and W cells.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastdet.models.layers import ConvFactory, ConvModule, init_caffe2_xavier
from fastdet.registry import NECKS


@NECKS.register()
class HRFPN(nn.Module):
    """All branches at the finest resolution become one map, whose pooled copies are the levels.

    Convolutions start from Caffe2's Xavier distribution. Keys: reduction_conv.conv, fpn_convs.i.conv.
    Source: Sun et al., High-Resolution Representations for Labeling Pixels and Regions, section 3.

    Args:
        in_channels: of each branch.
        out_channels: of every level.
        pooling_type: how a coarser level is made.
        stride: of the last convolutions.
        with_cp: recompute convolutions in the backward pass to save memory.

    Raises:
        ValueError: another pooling.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        num_outs: int = 5,
        pooling_type: Literal["AVG", "MAX"] = "AVG",
        stride: int = 1,
        conv: ConvFactory | None = None,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if pooling_type not in ("AVG", "MAX"):
            raise ValueError(f"pooling_type must be 'AVG' or 'MAX', not {pooling_type!r}")
        self.num_ins = len(in_channels)
        self.pool = F.avg_pool2d if pooling_type == "AVG" else F.max_pool2d
        self.saves_memory = with_cp
        self.reduction_conv = ConvModule(sum(in_channels), out_channels, 1, conv=conv, act=False)
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, stride=stride, padding=1, conv=conv, act=False)
            for _ in range(num_outs)
        )
        init_caffe2_xavier(self)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`num_outs` levels [B, out_channels, H, W], finest first, of branches each half as fine as the one before.

        Raises:
            ValueError: another number of branches.
        """
        if len(levels) != self.num_ins:
            raise ValueError(f"HRFPN was built for {self.num_ins} branches and was given {len(levels)}")
        fine = [levels[0]]
        for i, x in enumerate(levels[1:], start=1):
            fine.append(F.interpolate(x, scale_factor=float(2**i), mode="bilinear"))
        joined = self._run(self.reduction_conv, torch.cat(fine, 1))
        return tuple(
            self._run(conv, joined if i == 0 else self.pool(joined, kernel_size=2**i, stride=2**i))
            for i, conv in enumerate(self.fpn_convs)
        )

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        return checkpoint(layer, x, use_reentrant=False) if self.saves_memory and x.requires_grad else layer(x)
