"""Several exported sizes of one detector."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastdet.deploy.detector import Deployed, DeployedDetector
from fastdet.deploy.fitting import Pictures
from fastdet.structures import Batch, Detections
from fastdet.utils.errors import CheckpointError, DataError


class BucketedDetector(Deployed):
    """Several exported sizes of one detector; each picture goes to the smallest that holds it.

    Args:
        buckets: of the same classes and transforms.

    Raises:
        CheckpointError: they are of different detectors.
    """

    def __init__(self, buckets: Sequence[DeployedDetector]) -> None:
        super().__init__(buckets[0].metadata)
        self.buckets = tuple(sorted(buckets, key=lambda bucket: (bucket.shape[0] * bucket.shape[1], bucket.shape)))
        for bucket in self.buckets:
            for name in ("classes", "transforms", "settings", "source"):
                if getattr(bucket.metadata, name) != getattr(self.metadata, name):
                    raise CheckpointError(
                        f"{buckets[0].name} and {bucket.name} were exported from different detectors ({name} differ): "
                        "export all sizes in one command, with --shape given several times"
                    )

    def predict_batch(self, batch: Batch) -> Detections:
        """See Deployed."""

        def part(bucket: DeployedDetector, rows: list[int]) -> Detections:
            sizes = batch.sizes[rows]
            height, width = (int(side) for side in sizes.amax(0))
            return bucket.predict_batch(Batch(batch.pixels[rows, :, :height, :width], sizes, None, ()))

        return self._in_parts(batch.sizes.tolist(), part)

    @property
    def on_gpu(self) -> bool:
        """See Deployed."""
        return all(bucket.on_gpu for bucket in self.buckets)

    def predict_pictures(self, pictures: Pictures) -> Detections:
        """See Deployed."""

        def part(bucket: DeployedDetector, rows: list[int]) -> Detections:
            metas = tuple(pictures.metas[row] for row in rows)
            return bucket.predict_pictures(Pictures([pictures.pixels[row] for row in rows], metas))

        return self._in_parts([meta.input_size for meta in pictures.metas], part)

    def _in_parts(
        self, sizes: Sequence[Sequence[int]], part: Callable[[DeployedDetector, list[int]], Detections]
    ) -> Detections:
        """The detections of pictures of these sizes, which `part` finds for the rows of one bucket."""
        places = [self._bucket(*size) for size in sizes]
        parts: list[Detections] = []
        order: list[int] = []
        for place in sorted(set(places)):
            rows = [row for row, chosen in enumerate(places) if chosen == place]
            parts.append(part(self.buckets[place], rows))
            order += rows
        back = torch.tensor(order).argsort()
        slots = max(found.boxes.shape[1] for found in parts)
        fields: list[tuple[Any, ...]] = list(zip(*(_widened(found, slots) for found in parts), strict=True))
        boxes, scores, labels, count = (torch.cat(column)[back] for column in fields[:4])
        masks = None if fields[4][0] is None else torch.cat(fields[4])[back]
        return Detections(boxes, scores, labels, count, masks)

    def _bucket(self, height: int, width: int) -> int:
        for place, bucket in enumerate(self.buckets):
            whole = bucket.metadata.whole_images
            fits = height <= bucket.shape[0] and width <= bucket.shape[1]
            if (bucket.shape == (height, width)) if whole else fits:
                return place
        shapes = ", ".join(f"{bucket.shape[0]} x {bucket.shape[1]}" for bucket in self.buckets)
        raise DataError(
            f"a picture is {height} x {width} pixels (height x width) after the transforms, and the exported sizes are "
            f"{shapes}: export with --shape {height} {width} too"
        )


def _widened(detections: Detections, slots: int) -> tuple[Tensor | None, ...]:
    """With empty slots up to a number."""
    more = slots - detections.boxes.shape[1]

    def wider(values: Tensor | None) -> Tensor | None:
        if values is None or values.dim() == 1 or more == 0:
            return values
        return torch.cat((values, values.new_zeros(len(values), more, *values.shape[2:])), dim=1)

    return tuple(wider(part) for part in detections)
