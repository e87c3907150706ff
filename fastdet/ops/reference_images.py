"""Slow, readable twin of the op that resizes pictures."""

import math

import torch
from torch import Tensor


def _taps(target: int, size: int, *, stops: bool) -> list[tuple[int, int, int, int]]:
    """For each output pixel of one axis: two source pixels and their weights, of which 2048 is one."""
    scale = 1.0 / (target / size)
    taps = []
    for place in range(target):
        position = torch.tensor((place + 0.5) * scale - 0.5, dtype=torch.float64).float()
        cell = math.floor(position)
        fraction = position - cell
        if stops and not 0 <= cell < size - 1:
            cell, fraction = (0 if cell < 0 else size - 1), torch.tensor(0.0)
        weights = (round(float((1 - fraction) * 2048)), round(float(fraction * 2048)))
        taps.append((min(max(cell, 0), size - 1), min(max(cell + 1, 0), size - 1), *weights))
    return taps


def _resized(picture: Tensor, height: int, width: int) -> Tensor:
    """[h, w, 3] -> [height, width, 3]"""
    values = picture.long()
    if picture.shape[:2] == (2 * height, 2 * width):
        return ((values.view(height, 2, width, 2, 3).sum((1, 3)) + 2) >> 2).byte()
    columns = _taps(width, picture.shape[1], stops=True)
    rows = _taps(height, picture.shape[0], stops=False)
    wide = torch.stack([values[:, a] * wa + values[:, b] * wb for a, b, wa, wb in columns], dim=1)
    out = [((wa * (wide[a] >> 4)) >> 16) + ((wb * (wide[b] >> 4)) >> 16) for a, b, wa, wb in rows]
    return ((torch.stack(out) + 2) >> 2).byte()


def fit_images(
    pixels: Tensor, pictures: Tensor, sizes: Tensor, shape: tuple[int, int], *, channels_first: bool = False
) -> Tensor:
    """See `fastdet.ops.fit_images`."""
    images = torch.zeros(len(pictures), *shape, 3, dtype=torch.uint8)
    for image, (start, height, width), (new_height, new_width) in zip(
        images, pictures.tolist(), sizes.tolist(), strict=True
    ):
        picture = pixels[start : start + height * width * 3].view(height, width, 3)
        image[:new_height, :new_width] = _resized(picture, new_height, new_width)
    return images.permute(0, 3, 1, 2).contiguous() if channels_first else images
