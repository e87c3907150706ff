"""From probabilities inside boxes to binary masks of an image.

Letters: n instances, S mask side, H and W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _window(low: Tensor, high: Tensor, size: int) -> tuple[int, int]:
    """First and one-past-last pixel that a mask over [low, high] can touch."""
    start = min(max(int(low.floor()) - 1, 0), size)
    return start, max(min(int(high.ceil()) + 1, size), start)


def _axis(start: int, stop: int, low: Tensor, high: Tensor) -> Tensor:
    """Pixel centres as coordinates in [-1, 1] over the box; a box without extent samples the mask's middle."""
    centres = torch.arange(start, stop, dtype=torch.float32) + 0.5
    position = (centres - low) / (high - low) * 2 - 1
    return position.masked_fill(position.isinf(), 0)


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Binary masks of the whole image, on the CPU.

    Each mask is sampled bilinearly at the pixel centres inside its box (zero outside the mask) and compared with the
    threshold, one box at a time, so that beside the result no more than one box's pixels are in memory.
    The arithmetic is MMDetection's, so that equal probabilities give equal pixels.

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
        x = _axis(left, right, x1, x2).expand(bottom - top, -1)
        y = _axis(top, bottom, y1, y2)[:, None].expand(-1, right - left)
        grid = torch.stack([x, y], dim=-1)  # [h, w, 2]
        values = F.grid_sample(mask[None, None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)
        pasted[index, top:bottom, left:right] = values[0, 0] >= threshold
    return pasted
