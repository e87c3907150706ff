"""StandardRoIHead: pooling and heads of the second stage, run on padded batches of RoIs.

Letters: B images, S slots, C classes, R = B * S, W side of a mask.
"""

from collections.abc import Sequence

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
        shared_head: nn.Module | None = None,
        reg_roi_scale_factor: float | None = None,
    ) -> None:
        super().__init__()
        self.bbox_roi_extractor = bbox_roi_extractor
        self.bbox_head = bbox_head
        self.mask_roi_extractor = mask_roi_extractor or bbox_roi_extractor
        self.mask_head = mask_head
        self.shared_head = shared_head
        self.reg_roi_scale_factor = reg_roi_scale_factor
        self.trims_on_cpu = True

    @property
    def with_masks(self) -> bool:
        """Whether `masks` can be called."""
        return self.mask_head is not None

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
        head = self.mask_head
        assert head is not None, "masks() needs a mask head"

        def run(rois: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            return (head(self._pool(self.mask_roi_extractor(features, rois)), present),)

        return run_on_rois(run, boxes, valid, trims_on_cpu=self.trims_on_cpu)[0]

    def _pool(self, pooled: Tensor) -> Tensor:
        return pooled if self.shared_head is None else self.shared_head(pooled)
