"""Seeded inputs that the op tests share."""

import torch
from torch import Tensor


def random_boxes(count: int, seed: int, extent: float = 200.0, size: float = 60.0) -> Tensor:
    """[count, 4] xyxy around the origin, so that many coordinates are negative."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * extent - extent / 2
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * size], dim=1)


def tied_scores(count: int, seed: int, values: int = 20) -> Tensor:
    """[count] scores of few different values, so that ties are common."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, values, (count,), generator=generator) / values


def random_groups(count: int, seed: int) -> Tensor:
    """[count] int64 group numbers, negative and huge ones among them."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.tensor([-7, 0, 1, 2, 2**40])
    return numbers[torch.randint(0, len(numbers), (count,), generator=generator)]


def random_rois(count: int, batch: int, seed: int, extent: float = 160.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """[count, 5] RoIs, partly outside of an image of `extent` pixels, of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, batch, (count, 1), generator=generator).float()
    corner = torch.rand(count, 2, generator=generator) * extent - 0.2 * extent
    size = torch.rand(count, 2, generator=generator) ** 2 * extent
    return torch.cat([image, corner, corner + size], dim=1).to(dtype)


def pyramid(
    channels: int, seed: int, dtype: torch.dtype = torch.float32, channels_last: bool = False, batch: int = 2
) -> list[Tensor]:
    """Three levels of strides 4, 8 and 16 for an image of about 160 pixels, with odd sides."""
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(batch, channels, *side, generator=generator) for side in ((41, 37), (21, 19), (11, 10))]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return [level.to(dtype).contiguous(memory_format=layout) for level in levels]


SCALES = (1 / 4, 1 / 8, 1 / 16)
