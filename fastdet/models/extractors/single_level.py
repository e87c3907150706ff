"""SingleRoIExtractor: RoIAlign from the one pyramid level that fits each box."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet import ops
from fastdet.registry import EXTRACTORS


@EXTRACTORS.register()
class SingleRoIExtractor(nn.Module):
    """Pools each box from the level of its size, all levels in one call of the op.

    Level l takes boxes whose sqrt(area) lies in [finest_scale * 2^l, finest_scale * 2^(l+1)); the first and the last
    level take what is smaller or larger. With one stride there is one level.

    Source: Lin et al., Feature Pyramid Networks, section 4.2, eq. 1, with MMDetection's finest scale of 56 pixels;
    He et al., Mask R-CNN, section 3 (RoIAlign).

    Args:
        featmap_strides: input pixels per feature pixel of the levels used; later levels of the pyramid are left out.
        output_size: side of the pooled square, in cells.
        sampling_ratio: samples per cell and axis; 0 chooses ceil(box size / output size).
        aligned: half-pixel shift of coordinates, as Detectron2 has it; False is Detectron's first version.
        finest_scale: sqrt(area) in input pixels up to twice of which boxes go to the first level.
    """

    def __init__(
        self,
        featmap_strides: Sequence[int],
        *,
        output_size: int = 7,
        sampling_ratio: int = 0,
        aligned: bool = True,
        finest_scale: float = 56.0,
    ) -> None:
        super().__init__()
        if not featmap_strides:
            raise ValueError("featmap_strides must name at least one level, such as (4, 8, 16, 32)")
        self.featmap_strides = tuple(featmap_strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.finest_scale = finest_scale

    def forward(self, features: Sequence[Tensor], rois: Tensor, *, box_scale: float = 1.0) -> Tensor:
        """Pooled features.

        Args:
            features: pyramid levels, each [B, C, Hl, Wl], finest first; at least as many as strides.
            rois: image index and xyxy in input pixels, float32 [R, 5].
            box_scale: boxes are enlarged about their centres by this factor; the level stays that of the box itself.

        Returns:
            [R, C, output_size, output_size], dtype of the features.
        """
        levels = None
        if box_scale != 1.0:
            levels = roi_levels(rois, len(self.featmap_strides), self.finest_scale)
            rois = scaled_rois(rois, box_scale)
        return ops.roi_align(
            list(features[: len(self.featmap_strides)]),
            rois,
            self.output_size,
            [1.0 / stride for stride in self.featmap_strides],
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
            finest_scale=self.finest_scale,
            levels=levels,
        )


def roi_levels(rois: Tensor, num_levels: int, finest_scale: float) -> Tensor:
    """The pyramid level of each RoI [R, 5] by its size: int64 [R]."""
    side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
    return torch.floor(torch.log2(side / finest_scale + 1e-6)).clamp(0, num_levels - 1).nan_to_num().long()


def scaled_rois(rois: Tensor, factor: float) -> Tensor:
    """RoIs [R, 5] enlarged about their centres."""
    centre, half = (rois[:, 1:3] + rois[:, 3:]) * 0.5, (rois[:, 3:] - rois[:, 1:3]) * (0.5 * factor)
    return torch.cat([rois[:, :1], centre - half, centre + half], dim=1)
