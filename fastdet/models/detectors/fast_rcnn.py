"""FastRCNN: the second stage alone, on proposals that come with the images.

Letters: B images, K proposals, H and W pixels.
"""

import torch
from torch import Tensor, nn

from fastdet.models.detectors.loss_state import keep_loss_state
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.preprocess import Preprocess
from fastdet.models.stages.roi import RoIStage
from fastdet.registry import DETECTORS
from fastdet.structures import Batch, Detections


@DETECTORS.register()
class FastRCNN(nn.Module):
    """Features, then classes, boxes (and masks) of given proposals.

    Source: Girshick, Fast R-CNN.

    Args:
        preprocess: normalises pixels; knows what batches are padded to.
        backbone: maps pixels to feature levels.
        neck: maps the backbone's levels to others; None: they go to the heads as they are.
        roi_head, roi: parameters and procedure of the second stage, or those of a cascade.
    """

    classes: tuple[str, ...] = ()

    def __init__(
        self,
        preprocess: Preprocess,
        backbone: nn.Module,
        roi_head: StandardRoIHead,
        roi: RoIStage,
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        self.neck = neck
        self.roi_head = roi_head
        self.roi = roi
        keep_loss_state(roi_head, roi)

    @property
    def mask_threshold(self) -> float:
        """Least probability of a pixel that belongs to an instance, for `to_instances`."""
        return self.roi.mask_thr_binary

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Named losses of a batch, and `acc`; the total is the sum of the names with "loss" in them.

        Args:
            generator: of the samplers, on the batch's device; None for torch's own.

        Raises:
            ValueError: a batch without targets or without proposals.
        """
        if batch.targets is None:
            raise ValueError("loss() needs a batch with targets; use predict() for images alone")
        proposals = _proposals(batch)
        pixels = self.preprocess(batch.pixels, batch.sizes)
        height, width = pixels.shape[2:]
        return self.roi.loss(
            self.roi_head,
            self._features(pixels),
            proposals,
            batch.targets,
            image_size=(height, width),
            sizes=batch.sizes,
            generator=generator,
        )

    @torch.no_grad()
    def predict(self, batch: Batch) -> Detections:
        """Detections of fixed shape in pixels of the network input, with mask probabilities if there is a mask head.

        Raises:
            ValueError: a batch without proposals.
        """
        proposals = _proposals(batch)
        features = self._features(self.preprocess(batch.pixels, batch.sizes))
        return self.roi.predict(self.roi_head, features, proposals, batch.sizes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Feature levels of BGR pixels in 0..255, [B, 3, H, W] without padding: without proposals there is no more."""
        return self._features(self.preprocess(pixels))

    def _features(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Feature levels of normalised pixels [B, 3, H, W], finest first."""
        levels = self.backbone(pixels)
        return tuple(levels if self.neck is None else self.neck(levels))


def _proposals(batch: Batch) -> Detections:
    if batch.proposals is None:
        raise ValueError(
            "Fast R-CNN needs a batch with proposals: make them with a region proposal network, or train Faster R-CNN"
        )
    boxes, count = batch.proposals
    labels = torch.zeros(boxes.shape[:2], dtype=torch.int64, device=boxes.device)
    return Detections(boxes, torch.zeros(boxes.shape[:2], device=boxes.device), labels, count)
