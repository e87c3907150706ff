"""CascadeRoIHead: one box head, and one mask head if wanted, for each step of a cascade.

Letters: B images, S slots, C classes, W side of a mask.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.fcn_mask import FCNMaskHead
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

    Hybrid Task Cascade adds two things. Mask information flow: a step's mask head also takes what the convolutions of
    the mask head before it found. A semantic branch: its embedding, pooled, is added to the RoIs' features.

    Source: Cai and Vasconcelos, Cascade R-CNN, section 4; Chen et al., Hybrid Task Cascade, sections 3.2 and 3.3.

    Args:
        bbox_roi_extractors, bbox_heads: of each step.
        mask_roi_extractors: of each step; None: those of the box heads.
        mask_heads: of each step; None: no masks.
        mask_info_flow: each mask head takes what the one before found.
        semantic_head: maps the pyramid to semantic logits and an embedding; None: no semantic branch.
        semantic_roi_extractor: pools from the embedding.
        semantic_fusion: whose features it is added to: "bbox", "mask" or both.

    Raises:
        ValueError: different numbers of heads and extractors; a semantic head without an extractor.
    """

    def __init__(
        self,
        bbox_roi_extractors: Sequence[nn.Module],
        bbox_heads: Sequence[nn.Module],
        *,
        mask_roi_extractors: Sequence[nn.Module] | None = None,
        mask_heads: Sequence[nn.Module] | None = None,
        mask_info_flow: bool = False,
        semantic_head: nn.Module | None = None,
        semantic_roi_extractor: nn.Module | None = None,
        semantic_fusion: Sequence[str] = ("bbox", "mask"),
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
        if (semantic_head is None) != (semantic_roi_extractor is None):
            raise ValueError("semantic_head and semantic_roi_extractor need each other: give both or none")
        self.bbox_roi_extractor = nn.ModuleList(bbox_roi_extractors)
        self.bbox_head = nn.ModuleList(bbox_heads)
        self.mask_roi_extractor: nn.ModuleList | None = None
        if mask_heads is not None:
            own = mask_roi_extractors is not None
            self.mask_roi_extractor = nn.ModuleList(mask_roi_extractors) if own else self.bbox_roi_extractor
        self.mask_head = None if mask_heads is None else nn.ModuleList(mask_heads)
        self.mask_info_flow = mask_info_flow
        self.semantic_head = semantic_head
        self.semantic_roi_extractor = semantic_roi_extractor
        self.semantic_fusion = tuple(semantic_fusion)
        self.trims_on_cpu = True

    @property
    def with_masks(self) -> bool:
        """Whether `masks` can be called."""
        return self.mask_head is not None

    def prepare(self, features: Sequence[Tensor]) -> CascadeFeatures:
        """What the other methods take, from pyramid levels [B, channels, Hl, Wl], finest first."""
        if self.semantic_head is None:
            return CascadeFeatures(tuple(features))
        logits, embedding = self.semantic_head(features)
        return CascadeFeatures(tuple(features), embedding, logits)

    def forward(self, features: CascadeFeatures, boxes: Tensor, valid: Tensor, *, step: int) -> BBoxOutput:
        """Class logits [B, S, C + 1] and deltas [B, S, ...] of boxes from one step's head.

        Args:
            features: what `prepare` made of the pyramid.
            boxes: [B, S, 4] xyxy in input pixels.
            valid: which slots hold a RoI, bool [B, S]. What comes out for the others means nothing.
            step: 0 is the first.
        """

        def run(rois: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            return self.bbox_head[step](self._pool(self.bbox_roi_extractor[step], "bbox", features, rois), present)

        return BBoxOutput(*run_on_rois(run, boxes, valid, trims_on_cpu=self.trims_on_cpu))

    def masks(self, features: CascadeFeatures, boxes: Tensor, valid: Tensor, *, step: int) -> Tensor:
        """Mask logits [B, S, C, W, W] ([B, S, 1, W, W] without classes) of one step; arguments as in `forward`."""
        heads, extractors = self.mask_head, self.mask_roi_extractor
        assert heads is not None, "masks() needs mask heads"
        assert extractors is not None

        def run(rois: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            pooled = self._pool(extractors[step], "mask", features, rois)
            if not self.mask_info_flow:
                return (heads[step](pooled, present),)
            last, found = heads[step], None
            assert isinstance(last, FCNMaskHead)
            for head in heads[:step]:
                assert isinstance(head, FCNMaskHead)
                found = head.trunk(pooled, present, found)
            return (last.predict(last.trunk(pooled, present, found)),)

        return run_on_rois(run, boxes, valid, trims_on_cpu=self.trims_on_cpu)[0]

    def predicted_masks(self, features: CascadeFeatures, boxes: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        """Mask logits whose probabilities a prediction averages; arguments as in `forward`.

        They are every step's, or the last step's alone under mask information flow, as in MMDetection 3.x.
        """
        last = len(self.bbox_head) - 1
        steps = (last,) if self.mask_info_flow else range(last + 1)
        return tuple(self.masks(features, boxes, valid, step=step) for step in steps)

    def _pool(self, extractor: nn.Module, branch: str, features: CascadeFeatures, rois: Tensor) -> Tensor:
        """RoIs' features, those of the semantic branch added."""
        pooled: Tensor = extractor(features.levels, rois)
        if self.semantic_roi_extractor is None or branch not in self.semantic_fusion:
            return pooled
        semantic = self.semantic_roi_extractor((features.semantic,), rois)
        if semantic.shape[2:] != pooled.shape[2:]:
            semantic = F.adaptive_avg_pool2d(semantic, (pooled.shape[2], pooled.shape[3]))
        return pooled + semantic
