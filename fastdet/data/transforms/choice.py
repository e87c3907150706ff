"""One of several pipelines by chance."""

from collections.abc import Sequence

import numpy as np

from fastdet.data.pipeline import Transform
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample


@TRANSFORMS.register()
class RandomChoice:
    """Runs one of several pipelines, drawn anew for each image. Source: mmcv `RandomChoice` (2.x: `AutoAugment`).

    Args:
        transforms: the pipelines; a single transform is a pipeline of one.
        prob: how likely each is; None: all are as likely.
    """

    def __init__(
        self, transforms: Sequence[Transform | Sequence[Transform]], prob: Sequence[float] | None = None
    ) -> None:
        if not transforms:
            raise ValueError("transforms must hold at least one pipeline")
        if prob is not None and (len(prob) != len(transforms) or min(prob) < 0 or abs(sum(prob) - 1) > 1e-6):
            raise ValueError(f"prob must be {len(transforms)} numbers whose sum is 1, not {prob}")
        self.pipelines = [tuple(part) if isinstance(part, Sequence) else (part,) for part in transforms]
        self.bounds = np.cumsum([1 / len(self.pipelines)] * len(self.pipelines) if prob is None else prob)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample | None:
        chosen = int(np.searchsorted(self.bounds, rng.random(), side="right"))
        present: Sample | None = sample
        for transform in self.pipelines[min(chosen, len(self.pipelines) - 1)]:
            if present is not None:
                present = transform(present, rng)
        return present
