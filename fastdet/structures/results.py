"""Detections: of fixed shape on the device, and trimmed per image for users and metrics.

Letters: B images, K slots, S mask side, n detections of one image.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from fastdet.structures.batch import ImageMeta


class Detections(NamedTuple):
    """A detector's output of fixed shape, by score, descending. Slots at and after the count hold zeros."""

    boxes: Tensor  # [B, K, 4] float32, xyxy, network-input pixels
    scores: Tensor  # [B, K] float32
    labels: Tensor  # [B, K] int64
    count: Tensor  # type: ignore[assignment]  # [B] int64; hides tuple.count
    masks: Tensor | None = None  # [B, K, S, S] float32: probabilities inside the box


@dataclass(frozen=True, slots=True)
class Instances:
    """One image's detections in file pixels, with the names that MMDetection's users read."""

    bboxes: Tensor  # [n, 4] float32, xyxy
    scores: Tensor  # [n] float32
    labels: Tensor  # [n] int64
    masks: Tensor | None = None  # [n, H, W] bool

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Tensor | slice) -> "Instances":
        """A selection by slice, index tensor or bool tensor."""
        masks = None if self.masks is None else self.masks[index]
        return Instances(self.bboxes[index], self.scores[index], self.labels[index], masks)

    def cpu(self) -> "Instances":
        """The same on the CPU."""
        masks = None if self.masks is None else self.masks.cpu()
        return Instances(self.bboxes.cpu(), self.scores.cpu(), self.labels.cpu(), masks)


@dataclass(frozen=True, slots=True)
class Result:
    """What `inference_detector` returns for an image."""

    pred_instances: Instances
    meta: ImageMeta
