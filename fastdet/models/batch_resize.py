"""Training at changing resolutions: whole batches are resized on the device.

Letters: B images, H and W pixels.
"""

import random

import torch
import torch.nn.functional as F

from fastdet.registry import LAYERS
from fastdet.structures import Batch


@LAYERS.register()
class BatchSyncRandomResize:
    """Every `interval` batches another size for all of them; the first ones keep theirs.

    Sizes are functions of the number of batches seen, so all processes agree without talking to each other.

    Source: Redmon and Farhadi, YOLO9000, section 2 (multi-scale training).

    Args:
        random_size_range: (smallest, largest) height in pixels, both included; the width keeps the batch's proportions.
        size_divisor: heights and widths are multiples of it.
        interval: batches between changes.
        seed: of the course of sizes.

    Raises:
        ValueError: no multiple in the range.
    """

    def __init__(
        self, random_size_range: tuple[int, int], *, size_divisor: int = 32, interval: int = 10, seed: int = 0
    ) -> None:
        low, high = round(random_size_range[0] / size_divisor), round(random_size_range[1] / size_divisor)
        if not 0 < low <= high:
            raise ValueError(f"random_size_range {tuple(random_size_range)} has no multiple of {size_divisor}")
        self.multiples = (low, high)
        self.size_divisor = size_divisor
        self.interval = interval
        self.seed = seed
        self.num_batches = 0

    def __call__(self, batch: Batch) -> Batch:
        """The batch at the present size, pixels as float32, and boxes and sizes with it; counts it.

        Raises:
            ValueError: a batch with masks.
        """
        height, width = batch.pixels.shape[-2:]
        size = self._size(height, width)
        self.num_batches += 1
        if size == (height, width):
            return batch
        pixels = F.interpolate(batch.pixels.float(), size=size, mode="bilinear", align_corners=False)
        sizes = torch.stack((batch.sizes[:, 0] * size[0] // height, batch.sizes[:, 1] * size[1] // width), dim=1)
        targets = batch.targets
        if targets is not None:
            if targets.masks is not None:
                raise ValueError("BatchSyncRandomResize does not resize masks: use it for boxes alone")
            scale = [size[1] / width, size[0] / height] * 2
            boxes, ignored = (
                torch.stack([side * s for side, s in zip(b.unbind(-1), scale, strict=True)], dim=-1)
                for b in (targets.boxes, targets.ignore_boxes)
            )
            targets = targets._replace(boxes=boxes, ignore_boxes=ignored)
        return batch._replace(pixels=pixels, sizes=sizes, targets=targets)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the present batch."""
        period = self.num_batches // self.interval
        if period == 0:
            return height, width
        multiple = random.Random(f"{self.seed} {period}").randint(*self.multiples)
        return multiple * self.size_divisor, int(width / height * multiple) * self.size_divisor
