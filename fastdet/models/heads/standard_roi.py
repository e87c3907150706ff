"""StandardRoIHead: pooling and heads of the second stage, run on padded batches of RoIs.

Letters: B images, S slots, C classes, R = B * S, W side of a mask.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.readable import is_readable
from fastdet.registry import HEADS

Extractor = Callable[[Sequence[Tensor], Tensor], Tensor]


@HEADS.register()
class StandardRoIHead(nn.Module):
    """Pools boxes from the features and asks the box head, and the mask head if there is one.

    Slots without a RoI are computed like any other, so that shapes do not depend on data. On the CPU, where reading a
    count costs nothing, only the real RoIs are computed and the other slots are zero (`trims_on_cpu`).

    Args:
        bbox_roi_extractor: pools for the box head.
        bbox_head: maps pooled features and their validity to a BBoxOutput.
        mask_roi_extractor: pools for the mask head; None: as for the box head.
        mask_head: maps pooled features and their validity to mask logits [R, C or 1, W, W]; None: no masks.
        shared_head: layers between pooling and both heads.
    """

    def __init__(
        self,
        bbox_roi_extractor: Extractor,
        bbox_head: nn.Module,
        *,
        mask_roi_extractor: Extractor | None = None,
        mask_head: nn.Module | None = None,
        shared_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.bbox_roi_extractor = bbox_roi_extractor
        self.bbox_head = bbox_head
        self.mask_roi_extractor = mask_roi_extractor or bbox_roi_extractor
        self.mask_head = mask_head
        self.shared_head = shared_head
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
            return self.bbox_head(self._pool(self.bbox_roi_extractor, features, rois), present)

        return BBoxOutput(*self._run(run, boxes, valid))

    def masks(self, features: Sequence[Tensor], boxes: Tensor, valid: Tensor) -> Tensor:
        """Mask logits [B, S, C, W, W] ([B, S, 1, W, W] without classes) of boxes; arguments as in `forward`."""
        head = self.mask_head
        assert head is not None, "masks() needs a mask head"

        def run(rois: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            return (head(self._pool(self.mask_roi_extractor, features, rois), present),)

        return self._run(run, boxes, valid)[0]

    def _pool(self, extractor: Extractor, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        pooled = extractor(features, rois)
        return pooled if self.shared_head is None else self.shared_head(pooled)

    def _run(
        self, run: Callable[[Tensor, Tensor], tuple[Tensor, ...]], boxes: Tensor, valid: Tensor
    ) -> tuple[Tensor, ...]:
        """Results of `run` on flat RoIs, with slots again: each [B, S, ...]."""
        batch, slots = valid.shape
        image = torch.arange(batch, device=boxes.device, dtype=torch.float32)[:, None, None].expand(-1, slots, 1)
        rois, present = torch.cat([image, boxes.float()], dim=2).flatten(0, 1), valid.flatten()  # [R, 5], [R]
        if self.trims_on_cpu and is_readable(valid):
            rows = present.nonzero()[:, 0]
            found = run(rois[rows], present[rows])
            results = tuple(f.new_zeros(len(present), *f.shape[1:]).index_copy(0, rows, f) for f in found)
        else:
            results = run(rois, present)
        return tuple(r.unflatten(0, (batch, slots)) for r in results)
