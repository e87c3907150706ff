"""SingleStageDetector: features, one dense head, detections.

Letters: B images, H and W pixels.
"""

import torch
from torch import Tensor, nn

from fastdet.models.preprocess import Preprocess
from fastdet.models.stages.dense import DenseStage
from fastdet.models.stages.direct import DirectStage
from fastdet.models.stages.guided import GuidedAnchorStage
from fastdet.registry import DETECTORS
from fastdet.structures import Batch, DenseOutput, Detections


@DETECTORS.register()
class SingleStageDetector(nn.Module):
    """Features, then classes and boxes at every prior.

    RetinaNet is this class, and so are FCOS, ATSS, GFL, YOLOX and a region proposal network trained on its own.

    Source: Lin et al., Focal Loss for Dense Object Detection, section 4.

    Args:
        preprocess: normalises pixels; knows what batches are padded to.
        backbone: maps pixels to feature levels.
        neck: maps the backbone's levels to others; None: they go to the head as they are.
        bbox_head: the head's parameters.
        dense: its losses and post-processing.
    """

    classes: tuple[str, ...] = ()

    def __init__(
        self,
        preprocess: Preprocess,
        backbone: nn.Module,
        bbox_head: nn.Module,
        dense: DenseStage | DirectStage | GuidedAnchorStage,
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head
        self.dense = dense
        for name, part in _parts_with_state(dense).items():
            self.bbox_head.add_module(name, part)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Named losses of a batch; the total is their sum.

        Args:
            generator: of the sampler, on the batch's device; None for torch's own.

        Raises:
            ValueError: a batch without targets.
        """
        if batch.targets is None:
            raise ValueError("loss() needs a batch with targets; use predict() for images alone")
        batch = self.preprocess.augment(batch)
        assert batch.targets is not None
        output = self.bbox_head(self.features(batch.pixels, batch.sizes))
        padded_sizes = self.preprocess.padded_sizes(batch.sizes)
        return self.dense.loss(output, batch.sizes, padded_sizes, batch.targets, generator)

    def start_epoch(self, epoch: int) -> None:
        """Says which epoch begins, counted from 0, to a criterion that changes with it."""
        start = getattr(self.dense.criterion, "start_epoch", None)
        if start is not None:
            start(epoch)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Detections:
        """Detections of fixed shape in pixels of the network input."""
        return self.dense.predict(self.bbox_head(self.features(batch.pixels, batch.sizes)), batch.sizes)

    def forward(self, pixels: Tensor) -> DenseOutput:
        """Raw head outputs of BGR pixels in 0..255, [B, 3, H, W] without padding."""
        return self.bbox_head(self.features(pixels))

    def features(self, pixels: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Feature levels of pixels [B, 3, H, W], of which sizes [B, 2] say how much is image (None: all)."""
        levels = self.backbone(self.preprocess(pixels, sizes))
        return tuple(levels if self.neck is None else self.neck(levels))


def _parts_with_state(dense: DenseStage | DirectStage | GuidedAnchorStage) -> dict[str, nn.Module]:
    """Parts around the head that hold values of their own, by the names that MMDetection keeps them under in its head.

    Coder and criterion are no modules, so these values are saved and moved through the head alone.
    """
    found = {
        "integral": getattr(dense.coder, "integral", None),
        "loss_cls": getattr(dense.criterion, "loss_cls", None),
        "loss_bbox": getattr(dense.criterion, "loss_bbox", None),
    }
    return {name: part for name, part in found.items() if isinstance(part, nn.Module)}
