"""Small stand-ins: a detector with everything that a resumed run could lose, and a loader that obeys the protocol."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastdet.config.schema import Checkpoints, Data, DataSplit, Experiment, Loop, Optimizer, Runtime
from fastdet.registry import Spec
from fastdet.structures import Batch, ImageMeta, Targets


class FakeDetector(nn.Module):
    """Batch normalisation, dropout, a draw from the generator, and two losses."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        self.dropout = dropout

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        features = self.norm(self.conv(batch.pixels / 255)).relu().mean((2, 3))
        if generator is not None:
            keys = torch.rand(features.shape, generator=generator, device=features.device)
            features = features * (keys > 0.1)
        out = self.head(nn.functional.dropout(features, self.dropout, self.training)).float()
        assert batch.targets is not None
        wanted = batch.targets.boxes[:, 0, :2] / 10
        return {
            "loss_bbox": (out - wanted).square().mean(),
            "loss_cls": out.abs().mean() * 0.1,
            "acc": (out > 0).float().mean(),
        }


class FakeLoader:
    """Batches of noise that are a function of epoch and position; `bad` replaces the pixels of one with NaN."""

    def __init__(self, length: int = 5, images: int = 2, *, bad: tuple[int, int] | None = None, shard: int = 0) -> None:
        self.length = length
        self.images = images
        self.bad = bad
        self.shard = shard
        self.started: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.length

    def iterate(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        self.started.append((epoch, start_batch))
        for index in range(start_batch, self.length):
            yield self.make(epoch, index)

    def make(self, epoch: int, index: int) -> Batch:
        rng = torch.Generator().manual_seed(10_000 * self.shard + 100 * epoch + index)
        pixels = torch.rand((self.images, 3, 8, 8), generator=rng) * 255
        if self.bad == (epoch, index):
            pixels = pixels * torch.nan
        boxes = torch.rand((self.images, 8, 4), generator=rng) * 8
        targets = Targets(
            boxes=boxes,
            labels=torch.zeros((self.images, 8), dtype=torch.int64),
            count=torch.ones(self.images, dtype=torch.int64),
            ignore_boxes=torch.zeros((self.images, 8, 4)),
            ignore_count=torch.zeros(self.images, dtype=torch.int64),
        )
        metas = tuple(
            ImageMeta(100 * epoch + 10 * index + i, f"/data/{epoch}_{index}_{i}.jpg", (8, 8), (8, 8), (1.0, 1.0))
            for i in range(self.images)
        )
        return Batch(pixels, torch.full((self.images, 2), 8), targets, metas)


def make_detector(seed: int = 0, dropout: float = 0.2) -> FakeDetector:
    torch.manual_seed(seed)
    return FakeDetector(dropout)


def make_experiment(
    *,
    optimizer: Spec | None = None,
    length: int = 3,
    unit: Any = "epoch",
    val_interval: int = 1,
    schedule: tuple[Spec, ...] = (),
    checkpoints: Checkpoints | None = None,
    optimizer_options: dict[str, Any] | None = None,
    batch_size: int = 2,
    **runtime: Any,
) -> Experiment:
    algorithm = optimizer or Spec.of("SGD", lr=0.05, momentum=0.9, weight_decay=1e-4)
    return Experiment(
        model=Spec.of("Fake"),
        data=Data(train=DataSplit(dataset=Spec.of("Fake"), batch_size=batch_size)),
        optimizer=Optimizer(algorithm=algorithm, **(optimizer_options or {})),
        schedule=schedule,
        loop=Loop(unit=unit, length=length, val_interval=val_interval),
        runtime=Runtime(
            **{"seed": 3, "log_interval": 2, "checkpoints": checkpoints or Checkpoints(unit=unit), **runtime}
        ),
    )


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_bits(left: Any, right: Any, place: str = "") -> None:
    """Equality without tolerance, of nested dicts, lists, tensors and values."""
    assert type(left) is type(right), f"{place}: {type(left)} and {type(right)}"
    if isinstance(left, Tensor):
        assert left.dtype == right.dtype, place
        assert torch.equal(left, right), f"{place} differs by up to {(left - right).abs().max()}"
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), f"{place}: {left.keys() ^ right.keys()}"
        for key in left:
            assert_same_bits(left[key], right[key], f"{place}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), place
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same_bits(a, b, f"{place}[{index}]")
    else:
        assert left == right, f"{place}: {left} and {right}"
