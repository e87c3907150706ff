"""StandardRoIHead: pooling and heads of the second stage, run on padded batches of RoIs.

Letters: B images, S slots, C classes, R = B * S, W side of a mask.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.roi_rows import run_on_rois
from fastdet.registry import HEADS


@HEADS.register()
class StandardRoIHead(nn.Module):
    """Pools boxes from the features and asks the box head, and the mask head if there is one.

    Slots without a RoI are computed like any other; on the CPU they are left out (`trims_on_cpu`, see `run_on_rois`).

    Args:
        bbox_roi_extractor: pools for the box head.
        bbox_head: maps pooled features and their validity to a BBoxOutput.
        mask_roi_extractor: pools for the mask head; None: as for the box head.
        mask_head: maps pooled features and their validity to mask logits [R, C or 1, W, W]; None: no masks.
        mask_iou_head: maps the same features and a mask's logits [R, W, W] to IoUs [R, C]; None: masks have no scores.
        grid_roi_extractor: pools for the grid head; None: as for the box head.
        grid_head: maps pooled features and their validity to two sets of heatmaps [R, G, h, h]; None: no grids.
        shared_head: layers between pooling and both heads.
        reg_roi_scale_factor: the box head also gets features of boxes enlarged by this factor, as its second argument;
            None: it does not.
    """

    def __init__(
        self,
        bbox_roi_extractor: nn.Module,
        bbox_head: nn.Module,
        *,
        mask_roi_extractor: nn.Module | None = None,
        mask_head: nn.Module | None = None,
        mask_iou_head: nn.Module | None = None,
        grid_roi_extractor: nn.Module | None = None,
        grid_head: nn.Module | None = None,
        shared_head: nn.Module | None = None,
        reg_roi_scale_factor: float | None = None,
    ) -> None:
        super().__init__()
        self.bbox_roi_extractor = bbox_roi_extractor
        self.bbox_head = bbox_head
        self.mask_roi_extractor = None if mask_head is None else mask_roi_extractor or bbox_roi_extractor
        self.mask_head = mask_head
        self.mask_iou_head = mask_iou_head
        self.grid_roi_extractor = None if grid_head is None else grid_roi_extractor or bbox_roi_extractor
        self.grid_head = grid_head
        self.shared_head = shared_head
        self.reg_roi_scale_factor = reg_roi_scale_factor
        self.trims_on_cpu = True

    @property
    def with_masks(self) -> bool:
        """Whether `masks` can be called."""
        return self.mask_head is not None

    @property
    def scores_masks(self) -> bool:
        """Whether `scored_masks` can be called."""
        return self.mask_iou_head is not None

    def forward(self, features: Sequence[Tensor], boxes: Tensor, valid: Tensor) -> BBoxOutput:
        """Class logits [B, S, C + 1] and deltas [B, S, ...] of boxes.

        Args:
            features: pyramid levels [B, channels, Hl, Wl], finest first.
            boxes: [B, S, 4] xyxy in input pixels.
            valid: which slots hold a RoI, bool [B, S]. What comes out for the others means nothing.
        """

        def run(rois: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            pooled = self._pool(self.bbox_roi_extractor(features, rois))
            if self.reg_roi_scale_factor is None:
                return self.bbox_head(pooled, present)
            enlarged = self.bbox_roi_extractor(features, rois, box_scale=self.reg_roi_scale_factor)
            return self.bbox_head(pooled, self._pool(enlarged), present)

        return BBoxOutput(*run_on_rois(run, boxes, valid, trims_on_cpu=self.trims_on_cpu))

    def masks(self, features: Sequence[Tensor], boxes: Tensor, valid: Tensor) -> Tensor:
        """Mask logits [B, S, C, W, W] ([B, S, 1, W, W] without classes) of boxes; arguments as in `forward`."""
        head, extractor = self.mask_head, self.mask_roi_extractor
        assert head is not None, "masks() needs a mask head"
        assert extractor is not None

        def run(rois: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            return (head(self._pool(extractor(features, rois)), present),)

        return run_on_rois(run, boxes, valid, trims_on_cpu=self.trims_on_cpu)[0]

    def scored_masks(
        self, features: Sequence[Tensor], boxes: Tensor, valid: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mask logits [B, S, C, W, W] as `masks` gives them, and the IoU [B, S] of the mask of each slot's label.

        Args:
            labels: [B, S] int64.
        """
        head, extractor, iou_head = self.mask_head, self.mask_roi_extractor, self.mask_iou_head
        assert head is not None, "scored_masks() needs a mask head"
        assert extractor is not None
        assert iou_head is not None, "scored_masks() needs a mask IoU head"

        def run(rois: Tensor, present: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
            pooled = self._pool(extractor(features, rois))
            logits = head(pooled, present)
            rows = torch.arange(classes.shape[0], device=classes.device)
            own = logits[rows, classes if logits.shape[1] > 1 else torch.zeros_like(classes)]
            return logits, iou_head(pooled, own)[rows, classes]

        logits, ious = run_on_rois(run, boxes, valid, labels, trims_on_cpu=self.trims_on_cpu)
        return logits, ious

    def grids(self, features: Sequence[Tensor], boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Two sets of heatmap logits [B, S, G, h, h] of points of boxes; arguments as in `forward`."""
        head, extractor = self.grid_head, self.grid_roi_extractor
        assert head is not None, "grids() needs a grid head"
        assert extractor is not None

        def run(rois: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            return head(self._pool(extractor(features, rois)), present)

        fused, unfused = run_on_rois(run, boxes, valid, trims_on_cpu=self.trims_on_cpu)
        return fused, unfused

    def _pool(self, pooled: Tensor) -> Tensor:
        return pooled if self.shared_head is None else self.shared_head(pooled)
