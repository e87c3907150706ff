"""GenericRoIExtractor: RoIAlign from every pyramid level, put together."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fastdet import ops
from fastdet.models.extractors.single_level import scaled_rois
from fastdet.models.layers import ConvModule
from fastdet.models.layers.plugin import PluginFactory
from fastdet.registry import EXTRACTORS


@EXTRACTORS.register()
class GenericRoIExtractor(nn.Module):
    """Pools each box from all levels, and adds or concatenates what it finds. Keys: `pre_module`, `post_module`.

    Source: Rossi et al., A Novel Region of Interest Extraction Layer for Instance Segmentation, section 3.

    Args:
        featmap_strides: input pixels per feature pixel of the levels used; later levels of the pyramid are left out.
        output_size: side of the pooled square, in cells.
        sampling_ratio: samples per cell and axis; 0 chooses ceil(box size / output size).
        aligned: half-pixel shift of coordinates; False is Detectron's first version.
        aggregation: "sum" or "concat" (channels of one level after another).
        channels: of the levels.
        pre_kernel_size: of a convolution with ReLU on what each level gives, the same for all; None: there is none.
        post: makes a layer for the whole.

    Raises:
        ValueError: no level, or an unknown aggregation.
    """

    def __init__(
        self,
        featmap_strides: Sequence[int],
        *,
        output_size: int = 7,
        sampling_ratio: int = 0,
        aligned: bool = True,
        aggregation: Literal["sum", "concat"] = "sum",
        channels: int = 256,
        pre_kernel_size: int | None = None,
        post: PluginFactory | None = None,
    ) -> None:
        super().__init__()
        if not featmap_strides:
            raise ValueError("featmap_strides must name at least one level, such as (4, 8, 16, 32)")
        if aggregation not in ("sum", "concat"):
            raise ValueError(f"aggregation must be 'sum' or 'concat', not {aggregation!r}")
        self.featmap_strides = tuple(featmap_strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.aggregation = aggregation
        self.pre_module = None
        if pre_kernel_size is not None:
            self.pre_module = ConvModule(channels, channels, pre_kernel_size, padding=pre_kernel_size // 2)
        whole = channels if aggregation == "sum" else channels * len(self.featmap_strides)
        self.post_module = None if post is None else post.make(whole)

    def forward(self, features: Sequence[Tensor], rois: Tensor, *, box_scale: float = 1.0) -> Tensor:
        """Pooled features.

        Args:
            features: pyramid levels, each [B, C, Hl, Wl], finest first; at least as many as strides.
            rois: image index and xyxy in input pixels, float32 [R, 5].
            box_scale: boxes are enlarged about their centres by this factor.

        Returns:
            [R, C, output_size, output_size], or [R, C * levels, ...] concatenated; dtype of the features.
        """
        if box_scale != 1.0:
            rois = scaled_rois(rois, box_scale)
        pooled = [self._level(level, rois, 1.0 / s) for level, s in zip(features, self.featmap_strides, strict=False)]
        whole = torch.stack(pooled).sum(dim=0) if self.aggregation == "sum" else torch.cat(pooled, dim=1)
        return whole if self.post_module is None else self.post_module(whole)

    def _level(self, level: Tensor, rois: Tensor, scale: float) -> Tensor:
        pooled = ops.roi_align(
            [level], rois, self.output_size, [scale], sampling_ratio=self.sampling_ratio, aligned=self.aligned
        )
        return pooled if self.pre_module is None else self.pre_module(pooled)
