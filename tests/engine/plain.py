"""A detector whose loss of a batch is the mean of the losses of its halves, and loaders that give either."""

from typing import Any

import torch
from torch import Tensor, nn

from fastdet.structures import Batch
from tests.engine.fakes import FakeLoader


class PlainDetector(nn.Module):
    """No batch statistics and no chance."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(3, 2)

    def loss(self, batch: Batch, generator: Any = None) -> dict[str, Tensor]:
        out = self.layer(batch.pixels.mean((2, 3)) / 255)
        assert batch.targets is not None
        return {"loss_bbox": (out - batch.targets.boxes[:, 0, :2]).square().mean()}


class WholeLoader(FakeLoader):
    """Batches of four images."""

    def __init__(self) -> None:
        super().__init__(5, 4)


class HalfLoader(FakeLoader):
    """The first or second two images of WholeLoader's batches; `bad` holds for the second half."""

    def __init__(self, half: int, bad: tuple[int, int] | None = None) -> None:
        super().__init__(5, 2)
        self.half = half
        self.bad = bad

    def make(self, epoch: int, index: int) -> Batch:
        return half_of(
            WholeLoader().make(epoch, index), self.half, is_bad=self.half == 1 and self.bad == (epoch, index)
        )


def half_of(batch: Batch, half: int, *, is_bad: bool = False) -> Batch:
    """Two images of a batch of four."""
    part = slice(2 * half, 2 * half + 2)
    assert batch.targets is not None
    targets = batch.targets._replace(boxes=batch.targets.boxes[part])
    pixels = batch.pixels[part] * (torch.nan if is_bad else 1)
    return batch._replace(pixels=pixels, sizes=batch.sizes[part], targets=targets, metas=batch.metas[part])
