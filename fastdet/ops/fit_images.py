"""Pictures of any size, resized into one batch as OpenCV resizes them.

B pictures, N bytes, H and W pixels of the batch.
"""

import torch
from torch import Tensor

from fastdet.ops.checks import check_dtype, check_shape


def fit_images(
    pixels: Tensor, pictures: Tensor, sizes: Tensor, shape: tuple[int, int], *, channels_first: bool = False
) -> Tensor:
    """Resizes each picture into the upper left corner of its image, in one kernel; the rest is 0.

    Bilinear interpolation of bytes, bit for bit that of `cv2.resize` with INTER_LINEAR.

    Args:
        pixels: uint8 [N]: pictures one after the other, each [height, width, 3].
        pictures: int64 [B, 3]: first byte, height and width of each picture.
        sizes: int64 [B, 2]: (height, width) that each picture gets, at least (1, 1) and at most `shape`.
        shape: (H, W).
        channels_first: the layout of the result.

    Returns:
        uint8 [B, H, W, 3], or [B, 3, H, W].

    Raises:
        ValueError: A shape or dtype does not fit.
        RuntimeError: On the CPU, a picture does not lie within the bytes or does not fit; on a GPU it gives zeros.

    Source: OpenCV, cv::resize.
    """
    check_shape("pixels", pixels, None)
    check_dtype("pixels", pixels, torch.uint8)
    check_shape("pictures", pictures, None, 3)
    check_dtype("pictures", pictures, torch.int64)
    check_shape("sizes", sizes, pictures.shape[0], 2)
    check_dtype("sizes", sizes, torch.int64)
    if min(shape) < 1:
        raise ValueError(f"`shape` must be at least (1, 1), got {tuple(shape)}")
    return torch.ops.fastdet.fit_images(pixels, pictures, sizes, shape[0], shape[1], channels_first)


@torch.library.register_fake("fastdet::fit_images")
def _fit_images_fake(
    pixels: Tensor, pictures: Tensor, sizes: Tensor, height: int, width: int, channels_first: bool
) -> Tensor:
    batch = pictures.shape[0]
    return pixels.new_empty((batch, 3, height, width) if channels_first else (batch, height, width, 3))
