"""Which images make which batch: shuffled by seed and epoch, shared out to the processes, grouped by orientation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """An image at its place in the epoch; the place decides the sample's chance, whichever process reads it."""

    position: int
    image: int


@dataclass(frozen=True, kw_only=True)
class BatchSampler:
    """Lists the batches of an epoch for one process.

    With `even`, places are repeated from the epoch's start until every process has as many, so that none waits for
    another (training); without it each image comes once (testing). Grouping puts images that are higher than wide and
    the others into different batches; what is left over at the end is mixed, so that the number of batches depends on
    neither the epoch nor the process.

    Source: MMEngine's DefaultSampler and MMDetection's AspectRatioBatchSampler. The order drawn from a seed is another.

    Args:
        num_images: images of the dataset.
        seed: with the epoch's number it decides the order.
        portrait: bool [num_images], higher than wide; None for batches in order.
        class_images: the images of each class that has any; then classes take turns instead of images.
        images_per_class: images of a class that follow one another.
    """

    num_images: int
    batch_size: int
    seed: int
    shuffle: bool = False
    even: bool = False
    drop_last: bool = False
    portrait: np.ndarray | None = None
    class_images: Sequence[np.ndarray] | None = None
    images_per_class: int = 1
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must lie in [0, {self.world_size}), not {self.rank}")

    @property
    def num_draws(self) -> int:
        """Images that this process sees in an epoch."""
        if self.even:
            return -(-self.num_images // self.world_size)
        return len(range(self.rank, self.num_images, self.world_size))

    def __len__(self) -> int:
        if self.drop_last:
            return self.num_draws // self.batch_size
        return -(-self.num_draws // self.batch_size)

    def batches(self, epoch: int) -> list[list[Draw]]:
        """The batches of an epoch, counted from 0."""
        groups: tuple[list[Draw], list[Draw]] = ([], [])
        batches = []
        for draw in self._draws(epoch):
            group = groups[0 if self.portrait is not None and self.portrait[draw.image] else 1]
            group.append(draw)
            if len(group) == self.batch_size:
                batches.append(group.copy())
                group.clear()
        rest = groups[0] + groups[1]
        batches += [rest[i : i + self.batch_size] for i in range(0, len(rest), self.batch_size)]
        return batches[: len(self)]

    def _draws(self, epoch: int) -> Sequence[Draw]:
        order = np.arange(self.num_images)
        rng = np.random.default_rng((self.seed, epoch))
        if self.class_images is not None:
            order = class_turns(self.class_images, self.images_per_class, self.num_images, rng)
        elif self.shuffle:
            order = rng.permutation(self.num_images)
        if self.num_images == 0:
            return []
        positions = range(self.rank, self.rank + self.num_draws * self.world_size, self.world_size)
        return [Draw(p, int(order[p % self.num_images])) for p in positions]


def class_turns(
    class_images: Sequence[np.ndarray], per_class: int, length: int, rng: np.random.Generator
) -> np.ndarray:
    """Image numbers [length]: classes in random order, again and again, each with its next images in random order.

    Source: Shen et al., "Relay Backpropagation for Effective Learning of Deep Convolutional Neural Networks" (ECCV
    2016), section 3.3 (class-aware sampling); MMDetection's `ClassAwareSampler`.

    Raises:
        ValueError: no class has an image.
    """
    if not any(map(len, class_images)):
        raise ValueError("class-aware sampling needs images with objects")
    queues = [_endless(images, rng) for images in class_images if len(images)]
    turns = _endless(np.arange(len(queues)), rng)
    order: list[int] = []
    while len(order) < length:
        queue = queues[next(turns)]
        order += [next(queue) for _ in range(per_class)]
    return np.array(order[:length])


def _endless(values: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from values[rng.permutation(len(values))].tolist()


def sample_rng(seed: int, epoch: int, position: int) -> np.random.Generator:
    """All the chance of one sample: it depends on these three numbers, never on workers or on earlier samples."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, position))))
