"""The proof of an exported file: the same pictures through the detector in torch and through the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from fastdet.data.collate import collate
from fastdet.data.pipeline import prepare
from fastdet.deploy.runtime import DeployedDetector
from fastdet.deploy.verify import Comparison, Limits, compare
from fastdet.evaluation.coco import CocoMetric
from fastdet.models.results import to_instances
from fastdet.structures import Batch, Detections, ImageRecord, Sample
from fastdet.utils.errors import FastdetError

BATCH = 3
"""Pictures at once: more than one, and not the number that the graph was traced with."""
GREY = 114


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What came out.

    Args:
        runtime: what ran the file.
        comparison: of all detections.
        limits: that were asked for.
        ap: COCO's box AP over the annotated pictures, of torch and of the file; None without annotations.
    """

    runtime: str
    comparison: Comparison
    limits: Limits
    ap: tuple[float, float] | None

    @property
    def holds(self) -> bool:
        """Whether the file finds the same."""
        lost = 0.0 if self.ap is None else self.ap[0] - self.ap[1]
        return self.comparison.holds(self.limits) and lost <= self.limits.ap

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {"runtime": self.runtime, **self.comparison.to_dict(), "holds": self.holds}
        if self.ap is not None:
            values["ap"] = {"torch": self.ap[0], "file": self.ap[1], "difference": self.ap[1] - self.ap[0]}
        return values

    def __str__(self) -> str:
        outcome = self.comparison
        text = (
            f"{self.runtime} and torch: {outcome.matched} of {outcome.expected} detections of {outcome.images} "
            f"pictures equal (boxes within {outcome.box_error:.2g} px, scores within {outcome.score_error:.2g}); "
            f"{outcome.inexact} pictures without certificate"
        )
        if self.ap is not None:
            text = f"{text}; AP {self.ap[0]:.4f} in torch, {self.ap[1]:.4f} of the file"
        if outcome.expected == outcome.found == 0:
            text += (
                "\nwarning: neither found anything in these pictures, which proves little: give pictures with objects"
            )
        return text


def proof_batches(samples: Sequence[Sample], shape: tuple[int, int], *, whole_images: bool) -> list[Batch]:
    """An empty picture, a crowd, and those of the samples that fit into the shape (that fill it, if they must).

    Raises:
        FastdetError: no sample fits.
    """
    fitting = [s for s in samples if fits(s, shape)]
    if not fitting:
        height, width = samples[0].image.shape[:2]
        raise FastdetError(
            f"--shape {shape[0]} {shape[1]}: the test pictures are larger after their transforms, such as "
            f"{height} x {width}; give a shape that holds them, or smaller scales in the test pipeline"
        )
    empty = np.full((*shape, 3), GREY, np.uint8)
    crowded = _mosaic([np.ascontiguousarray(s.image) for s in fitting[:16]], shape)
    if whole_images:
        fitting = [s for s in fitting if s.image.shape[:2] == shape]
    prepared = [prepare(empty, (), -1), prepare(crowded, (), -2), *fitting]
    return [collate(prepared[i : i + BATCH], fixed_size=shape) for i in range(0, len(prepared), BATCH)]


def crowd(samples: Sequence[Sample], shape: tuple[int, int]) -> Batch:
    """One crowded picture of a size, made of the samples."""
    picture = _mosaic([np.ascontiguousarray(s.image) for s in samples[:16]], shape)
    return collate([prepare(picture, (), -2)], fixed_size=shape)


def fits(sample: Sample, shape: tuple[int, int]) -> bool:
    """Whether a picture fits into (H, W)."""
    return sample.image.shape[0] <= shape[0] and sample.image.shape[1] <= shape[1]


def _mosaic(pictures: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Sixteen small pictures in one."""
    height, width = shape
    tiles = [cv2.resize(p, (width // 4, height // 4)) for p in pictures]
    rows = [np.hstack([tiles[(4 * row + column) % len(tiles)] for column in range(4)]) for row in range(4)]
    crowd = np.full((*shape, 3), GREY, np.uint8)
    mosaic = np.vstack(rows)
    crowd[: mosaic.shape[0], : mosaic.shape[1]] = mosaic
    return crowd


def prove(
    detector: nn.Module,
    deployed: DeployedDetector,
    batches: Sequence[Batch],
    limits: Limits,
    records: Sequence[ImageRecord] = (),
) -> Proof:
    """Runs both over the batches.

    Args:
        records: annotations of some of the pictures, for AP.
    """
    expected, found, inexact = [], [], 0
    for batch in batches:
        outputs = deployed.run(batch.pixels, batch.sizes)
        inexact += int((outputs["exact"] == 0).sum())
        detections = deployed.detections(deployed.proven(outputs, batch.pixels, batch.sizes))
        found.append(detections)
        with torch.inference_mode():
            own = detector.predict(batch)  # type: ignore[operator]
        expected.append(_limited(own, detections.boxes.shape[1]))
    annotated = any(len(record.boxes) for record in records)
    return Proof(
        runtime=deployed.session.name,
        comparison=compare(expected, found, limits, inexact),
        limits=limits,
        ap=(_ap(expected, batches, records), _ap(found, batches, records)) if annotated else None,
    )


def _limited(detections: Detections, number: int) -> Detections:
    """The best `number` slots."""
    boxes, scores, labels = (part[:, :number] for part in detections[:3])
    masks = None if detections.masks is None else detections.masks[:, :number]
    return Detections(boxes, scores, labels, detections.count.clamp(max=number), masks)


def _ap(found: Sequence[Detections], batches: Sequence[Batch], records: Sequence[ImageRecord]) -> float:
    """COCO's box AP over the pictures that have records."""
    shown = {meta.image_id for batch in batches for meta in batch.metas if meta.path}
    records = [record for record in records if record.image_id in shown]
    known = {record.image_id for record in records}
    labels = [int(label) for record in records for label in record.labels]
    number = max([*labels, *(int(f.labels.max()) for f in found if f.labels.numel())]) + 1
    metric = CocoMetric(classes=[str(label) for label in range(number)], metric_items=["mAP"], records=lambda: records)
    for detections, batch in zip(found, batches, strict=True):
        instances = to_instances(detections._replace(masks=None), batch.metas)
        chosen = [i for i, meta in enumerate(batch.metas) if meta.image_id in known and meta.path]
        metric.update([instances[i] for i in chosen], [batch.metas[i] for i in chosen])
    return next(iter(metric.compute().values()))
