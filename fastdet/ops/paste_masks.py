"""Instance masks of a fixed side as bitmaps of the whole image.

K instances, S mask side, H and W pixels.
"""

import torch
from torch import Tensor

from fastdet.ops.checks import as_coordinates, check_shape


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Interpolates each mask bilinearly at the pixel centres of its box and compares it with the threshold.

    Cells around the mask are zero. A box without extent shows the mask's middle; one with a NaN coordinate shows
    nothing.

    Args:
        masks: [K, S, S] probabilities over the boxes; any float type, computed in float32.
        boxes: [K, 4] xyxy in pixels of the image.
        size: (H, W) of the image.
        threshold: A pixel belongs to the instance if its probability is at least this.

    Returns:
        bool [K, H, W].

    Raises:
        ValueError: A shape or dtype does not fit.
    """
    check_shape("masks", masks, None, None, None)
    check_shape("boxes", boxes, masks.shape[0], 4)
    masks, boxes = as_coordinates("masks", masks.detach()), as_coordinates("boxes", boxes.detach())
    return torch.ops.fastdet.paste_masks(masks, boxes, *size, threshold)


@torch.library.register_fake("fastdet::paste_masks")
def _paste_masks_fake(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    return masks.new_empty(masks.shape[0], height, width, dtype=torch.bool)
