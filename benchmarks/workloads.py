"""Inputs of the benchmarks: boxes and feature maps of an 800 x 1344 image, from fixed seeds."""

import torch
from torch import Tensor

STRIDES = (4, 8, 16, 32)
IMAGE = (800, 1344)


def spread_boxes(count: int, seed: int) -> Tensor:
    """[count, 4] xyxy of 16 to 512 pixels, log-uniform, anywhere in the image."""
    generator = torch.Generator().manual_seed(seed)
    size = 16 * torch.exp(torch.rand(count, 2, generator=generator) * torch.log(torch.tensor(32.0)))
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([IMAGE[1], IMAGE[0]])
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def clustered_boxes(count: int, seed: int) -> Tensor:
    """[count, 4]: about 50 shaken copies of each of count / 50 boxes, as a detector gives them before NMS."""
    generator = torch.Generator().manual_seed(seed)
    base = spread_boxes(max(1, count // 50), seed)
    chosen = torch.randint(0, len(base), (count,), generator=generator)
    return base[chosen] + 4 * torch.randn(count, 4, generator=generator)


def pyramid(channels: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """One image's levels of strides 4 to 32, NCHW."""
    generator = torch.Generator().manual_seed(0)
    sides = [(-(-IMAGE[0] // stride), -(-IMAGE[1] // stride)) for stride in STRIDES]
    return [torch.randn(1, channels, *side, generator=generator).to(device, dtype) for side in sides]


def rois(count: int, device: str) -> Tensor:
    """[count, 5] RoIs of image 0."""
    return torch.cat([torch.zeros(count, 1), spread_boxes(count, 1)], dim=1).to(device)
