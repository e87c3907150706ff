"""Slow twins of the ops on masks; `fastdet.ops.reference` has them all."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pasted_probabilities(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Each mask sampled at every pixel of the image, [K, H, W]: what is compared with the threshold."""
    height, width = size
    images = [masks.new_zeros(0, height, width)]
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        # [-1, 1] over the box; infinite where the box has no extent, which shows the mask's middle.
        x, y = (
            ((torch.arange(side, dtype=masks.dtype) + 0.5 - low) / (high - low) * 2 - 1).nan_to_num(0, 0, 0)
            for side, low, high in ((width, x1, x2), (height, y1, y2))
        )
        grid = torch.stack((x[None].expand(height, width), y[:, None].expand(height, width)), dim=-1)
        images.append(F.grid_sample(mask[None, None], grid[None], align_corners=False)[0])
    return torch.cat(images)


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Samples at every pixel; a window of two pixels around the box is all that can be seen."""
    pasted = pasted_probabilities(masks, boxes, size) >= threshold
    for image, (x1, y1, x2, y2) in zip(pasted, boxes.tolist(), strict=True):
        x, y = torch.arange(size[1]), torch.arange(size[0])
        inside_x = (x >= torch.tensor(x1).floor() - 1) & (x < torch.tensor(x2).ceil() + 1)
        inside_y = (y >= torch.tensor(y1).floor() - 1) & (y < torch.tensor(y2).ceil() + 1)
        image &= inside_y[:, None] & inside_x
    return pasted
