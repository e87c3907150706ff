"""From probabilities inside boxes to binary masks of an image.

Letters: n instances, S mask side, H and W pixels.
"""

import torch
from torch import Tensor


def _window(low: Tensor, high: Tensor, size: int) -> tuple[int, int]:
    """First and one-past-last pixel that a mask over [low, high] can touch."""
    start = min(max(int(low.floor()) - 1, 0), size)
    return start, max(min(int(high.ceil()) + 1, size), start)


def _weights(start: int, stop: int, low: Tensor, high: Tensor, side: int) -> Tensor:
    """What each mask cell contributes to each pixel centre along one axis: [stop - start, side], 0 outside the mask.

    A box without extent shows the mask's middle.
    """
    centres = torch.arange(start, stop, dtype=torch.float32) + 0.5
    position = (centres - low) / (high - low) * 2 - 1  # [-1, 1] over the box
    position = position.masked_fill(position.isinf(), 0)
    cell = ((position + 1) * side - 1) / 2
    return (1 - (cell[:, None] - torch.arange(side)).abs()).clamp(min=0)


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Binary masks of the whole image, on the CPU.

    Each mask is interpolated bilinearly at the pixel centres around its box (zero outside the mask) and compared with
    the threshold, one box at a time, so that beside the result no more than one box's pixels are in memory. Bilinear
    interpolation is linear in each axis alone: two small matrix products do it.

    Args:
        masks: probabilities over the boxes, float32 [n, S, S].
        boxes: xyxy in pixels of the image, float32 [n, 4].
        size: (H, W) of the image.
        threshold: a pixel belongs to the instance if its probability is at least this.

    Returns:
        bool [n, H, W].

    Raises:
        ValueError: masks and boxes differ in number.
    """
    if len(masks) != len(boxes):
        raise ValueError(
            f"masks and boxes must have one entry an instance, but there are {len(masks)} and {len(boxes)}"
        )
    height, width = size
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool)
    for index, (mask, (x1, y1, x2, y2)) in enumerate(zip(masks.float(), boxes, strict=True)):
        left, right = _window(x1, x2, width)
        top, bottom = _window(y1, y2, height)
        if right == left or bottom == top:
            continue
        rows, columns = _weights(top, bottom, y1, y2, mask.shape[0]), _weights(left, right, x1, x2, mask.shape[1])
        pasted[index, top:bottom, left:right] = rows @ mask @ columns.T >= threshold
    return pasted
