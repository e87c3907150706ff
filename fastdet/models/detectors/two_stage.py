"""TwoStageDetector: proposals first, then a closer look at each.

Letters: B images, K proposals, H and W pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastdet.models.detectors.loss_state import keep_loss_state
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.preprocess import Preprocess
from fastdet.models.stages.dense import DenseStage
from fastdet.models.stages.guided import GuidedAnchorStage
from fastdet.models.stages.roi import RoIStage
from fastdet.registry import DETECTORS
from fastdet.structures import Batch, Detections


class TwoStageOutput(NamedTuple):
    """What the heads say, before post-processing."""

    proposals: Detections  # [B, K, ...]; the last step's boxes if there are several
    rois: BBoxOutput  # logits [B, K, C + 1], deltas [B, K, C * 4]; slots at and after the count mean nothing


@DETECTORS.register()
class TwoStageDetector(nn.Module):
    """Features, region proposals, then classes, boxes (and masks) of the proposals.

    Faster R-CNN and Mask R-CNN are this class with and without a mask head. A backbone may give several versions of
    each image while training, as TridentNet's does: the image's targets count for all of them.

    Source: Ren et al., Faster R-CNN; He et al., Mask R-CNN.

    Args:
        preprocess: normalises pixels; knows what batches are padded to.
        backbone: maps pixels to feature levels.
        neck: maps the backbone's levels to others; None: they go to the heads as they are.
        rpn_head, rpn: parameters and procedure of the proposals.
        roi_head, roi: parameters and procedure of the second stage, or those of a cascade.
    """

    classes: tuple[str, ...] = ()

    def __init__(
        self,
        preprocess: Preprocess,
        backbone: nn.Module,
        rpn_head: nn.Module,
        rpn: DenseStage | GuidedAnchorStage,
        roi_head: StandardRoIHead,
        roi: RoIStage,
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        self.neck = neck
        self.rpn_head = rpn_head
        self.rpn = rpn
        self.roi_head = roi_head
        self.roi = roi
        keep_loss_state(roi_head, roi)

    @property
    def mask_threshold(self) -> float:
        """Least probability of a pixel that belongs to an instance, for `to_instances`."""
        return self.roi.mask_thr_binary

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Named losses of a batch, and `acc`; the total is the sum of the names with "loss" in them.

        Those of the first stage have "rpn" in their names, in front where they had it not, as in MMDetection.

        Args:
            generator: of the samplers, on the batch's device; None for torch's own.

        Raises:
            ValueError: a batch without targets.
        """
        if batch.targets is None:
            raise ValueError("loss() needs a batch with targets; use predict() for images alone")
        pixels = self.preprocess(batch.pixels, batch.sizes)
        features = self._features(pixels)
        sizes, targets = batch.sizes, batch.targets
        copies = len(features[0]) // len(pixels)
        if copies > 1:
            sizes, targets = sizes.repeat(copies, 1), targets.repeated(copies)
        output = self.rpn_head(features)
        height, width = pixels.shape[2:]
        first = self.rpn.loss(output, sizes, self.preprocess.padded_sizes(sizes), targets, generator)
        named = {name if "rpn" in name else f"rpn_{name}": value for name, value in first.items()}
        return named | self.roi.loss(
            self.roi_head,
            features,
            self.rpn.predict(output, sizes),
            targets,
            image_size=(height, width),
            sizes=sizes,
            generator=generator,
        )

    @torch.no_grad()
    def predict(self, batch: Batch) -> Detections:
        """Detections of fixed shape in pixels of the network input, with mask probabilities if there is a mask head."""
        features = self._features(self.preprocess(batch.pixels, batch.sizes))
        proposals = self.rpn.predict(self.rpn_head(features), batch.sizes)
        return self.roi.predict(self.roi_head, features, proposals, batch.sizes)

    def forward(self, pixels: Tensor) -> TwoStageOutput:
        """Raw head outputs of BGR pixels in 0..255, [B, 3, H, W] without padding."""
        features = self._features(self.preprocess(pixels))
        sizes = torch.tensor(pixels.shape[2:], device=pixels.device).expand(len(pixels), 2)
        proposals = self.rpn.predict(self.rpn_head(features), sizes)
        boxes, rois = self.roi.read(self.roi_head, features, proposals, sizes)
        return TwoStageOutput(proposals._replace(boxes=boxes), rois)

    def _features(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Feature levels of normalised pixels [B, 3, H, W], finest first."""
        levels = self.backbone(pixels)
        return tuple(levels if self.neck is None else self.neck(levels))
