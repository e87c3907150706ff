"""CascadeRoIHead: one box head, and one mask head if wanted, for each step of a cascade.

Letters: B images, S slots, C classes, W side of a mask.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.roi_rows import run_on_rois
from fastdet.registry import HEADS


class CascadeFeatures(NamedTuple):
    """What the steps of a cascade look at."""

    levels: tuple[Tensor, ...]  # pyramid levels [B, channels, Hl, Wl], finest first
    semantic: Tensor | None = None  # [B, channels, H', W']: of a semantic branch, added to pooled features
    semantic_logits: Tensor | None = None  # [B, classes, H', W']


@HEADS.register()
class CascadeRoIHead(nn.Module):
    """Pools boxes from the features and asks the heads of one step. Keys: `bbox_head.0`, `mask_head.0` and so on.

    Source: Cai and Vasconcelos, Cascade R-CNN, section 4.

    Args:
        bbox_roi_extractors, bbox_heads: of each step.
        mask_roi_extractors: of each step; None: those of the box heads.
        mask_heads: of each step; None: no masks.

    Raises:
        ValueError: different numbers of heads and extractors.
    """

    def __init__(
        self,
        bbox_roi_extractors: Sequence[nn.Module],
        bbox_heads: Sequence[nn.Module],
        *,
        mask_roi_extractors: Sequence[nn.Module] | None = None,
        mask_heads: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        steps = len(bbox_heads)
        for name, parts in (
            ("bbox_roi_extractors", bbox_roi_extractors),
            ("mask_roi_extractors", mask_roi_extractors),
            ("mask_heads", mask_heads),
        ):
            if parts is not None and len(parts) != steps:
                raise ValueError(f"there are {steps} bbox_heads, but {len(parts)} {name}: each step needs its own")
        self.bbox_roi_extractor = nn.ModuleList(bbox_roi_extractors)
        self.bbox_head = nn.ModuleList(bbox_heads)
        self.mask_roi_extractor = (
            self.bbox_roi_extractor if mask_roi_extractors is None else nn.ModuleList(mask_roi_extractors)
        )
        self.mask_head = None if mask_heads is None else nn.ModuleList(mask_heads)
        self.trims_on_cpu = True

    @property
    def with_masks(self) -> bool:
        """Whether `masks` can be called."""
        return self.mask_head is not None

    def prepare(self, features: Sequence[Tensor]) -> CascadeFeatures:
        """What the other methods take, from pyramid levels [B, channels, Hl, Wl], finest first."""
        return CascadeFeatures(tuple(features))

    def forward(self, features: CascadeFeatures, boxes: Tensor, valid: Tensor, *, step: int) -> BBoxOutput:
        """Class logits [B, S, C + 1] and deltas [B, S, ...] of boxes from one step's head.

        Args:
            features: what `prepare` made of the pyramid.
            boxes: [B, S, 4] xyxy in input pixels.
            valid: which slots hold a RoI, bool [B, S]. What comes out for the others means nothing.
            step: 0 is the first.
        """

        def run(rois: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            return self.bbox_head[step](self.bbox_roi_extractor[step](features.levels, rois), present)

        return BBoxOutput(*run_on_rois(run, boxes, valid, trims_on_cpu=self.trims_on_cpu))

    def masks(self, features: CascadeFeatures, boxes: Tensor, valid: Tensor, *, step: int) -> Tensor:
        """Mask logits [B, S, C, W, W] ([B, S, 1, W, W] without classes) of one step; arguments as in `forward`."""
        heads = self.mask_head
        assert heads is not None, "masks() needs mask heads"

        def run(rois: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            return (heads[step](self.mask_roi_extractor[step](features.levels, rois), present),)

        return run_on_rois(run, boxes, valid, trims_on_cpu=self.trims_on_cpu)[0]

    def all_masks(self, features: CascadeFeatures, boxes: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        """Mask logits of every step for the same boxes; arguments as in `forward`."""
        return tuple(self.masks(features, boxes, valid, step=step) for step in range(len(self.bbox_head)))
