"""A batch of fixed shape: what collate makes, the device holds and detectors take.

Letters: B images, M objects (rounded up), I ignored objects (rounded up), G masks, N mask pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class ImageMeta(NamedTuple):
    """One image's geometry, kept on the host. Sizes are (H, W)."""

    image_id: int | str
    path: str
    file_size: tuple[int, int]  # pixels of the file
    input_size: tuple[int, int]  # pixels of the network input, without padding
    scale: tuple[float, float]  # (sx, sy): input pixels per file pixel
    flip: str | None = None


class MaskBuffer(NamedTuple):
    """Instance masks as box-cropped bitmaps in one buffer.

    Mask g covers the window (x0, y0, w, h) of its image, row-major from `bits[offsets[g]]`; outside it is 0.
    Objects of image b, slot m have mask index `b * M + m`; padded slots have an empty window.
    """

    bits: Tensor  # [N] uint8, 0 or 1
    offsets: Tensor  # [G] int64, G = B * M
    windows: Tensor  # [G, 4] int32: x0, y0, width, height in input pixels


class Targets(NamedTuple):
    """Padded ground truth. Slots at and after the count hold zeros and count nowhere."""

    boxes: Tensor  # [B, M, 4] float32, xyxy, input pixels
    labels: Tensor  # [B, M] int64, in [0, C)
    count: Tensor  # type: ignore[assignment]  # [B] int64; hides tuple.count
    ignore_boxes: Tensor  # [B, I, 4] float32: crowds and difficult objects
    ignore_count: Tensor  # [B] int64
    masks: MaskBuffer | None = None
    semantic: Tensor | None = None  # [B, H, W] uint8 or int64: class of each pixel, 255 where none counts

    @property
    def valid(self) -> Tensor:
        """Which slots hold an object, bool [B, M]."""
        slots = torch.arange(self.boxes.shape[1], device=self.boxes.device)
        return slots < self.count[:, None]

    def repeated(self, copies: int) -> "Targets":
        """The targets of the same images several times, one whole batch after the other."""

        def again(value: Tensor) -> Tensor:
            return value.repeat(copies, *[1] * (value.dim() - 1))

        boxes, labels, count, ignore_boxes, ignore_count = map(again, self[:5])
        masks = self.masks
        if masks is not None:  # the pixels are shared
            masks = MaskBuffer(masks.bits, again(masks.offsets), again(masks.windows))
        semantic = None if self.semantic is None else again(self.semantic)
        return Targets(boxes, labels, count, ignore_boxes, ignore_count, masks, semantic)


class Proposals(NamedTuple):
    """Boxes that come with the images, for detectors without a first stage. Slots at and after the count hold zeros."""

    boxes: Tensor  # [B, K, 4] float32, xyxy, input pixels
    count: Tensor  # type: ignore[assignment]  # [B] int64; hides tuple.count


class Batch(NamedTuple):
    """Images padded at the right and bottom to one size, with targets when there are any."""

    pixels: Tensor  # [B, 3, H, W], BGR, 0..255, uint8 or float
    sizes: Tensor  # [B, 2] int64: (H, W) of each image before padding
    targets: Targets | None
    metas: tuple[ImageMeta, ...]
    proposals: Proposals | None = None

    def to(self, device: torch.device | str, non_blocking: bool = True) -> "Batch":
        """The batch with every tensor on the device."""

        def move(value: Tensor) -> Tensor:
            return value.to(device, non_blocking=non_blocking)

        targets = self.targets
        if targets is not None:
            masks = None if targets.masks is None else MaskBuffer(*map(move, targets.masks))
            boxes, labels, count, ignore_boxes, ignore_count = map(move, targets[:5])
            semantic = None if targets.semantic is None else move(targets.semantic)
            targets = Targets(boxes, labels, count, ignore_boxes, ignore_count, masks, semantic)
        proposals = None if self.proposals is None else Proposals(*map(move, self.proposals))
        return Batch(move(self.pixels), move(self.sizes), targets, self.metas, proposals)
