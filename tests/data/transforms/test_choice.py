"""One of several pipelines by chance."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from fastdet.data.transforms import RandomChoice, RandomFlip, Resize
from fastdet.registry import TRANSFORMS, Spec, build
from fastdet.structures import Sample


def test_pipelines_are_drawn_by_their_probability(make_sample: Callable[..., Sample], rng: np.random.Generator) -> None:
    part = RandomChoice([[Resize((10, 10)), RandomFlip(1.0)], Resize((30, 5))], prob=(0.8, 0.2))
    outs = [part(make_sample(), rng) for _ in range(200)]
    shapes = Counter(out.image.shape[:2] for out in outs if out is not None)
    assert set(shapes) == {(10, 10), (5, 30)}
    assert 140 < shapes[10, 10] < 180
    assert all((out.flip == "horizontal") == (out.image.shape[0] == 10) for out in outs if out is not None)


def test_a_pipeline_can_refuse_an_image(make_sample: Callable[..., Sample], rng: np.random.Generator) -> None:
    part = RandomChoice([[lambda sample, rng: None, Resize((10, 10))]])
    assert part(make_sample(), rng) is None


def test_it_is_built_from_lists_of_specs(make_sample: Callable[..., Sample], rng: np.random.Generator) -> None:
    resize = Spec.of("Resize", scale=(4, 4))
    part = build(Spec.of("RandomChoice", transforms=[[resize], [resize, resize]]), (TRANSFORMS,))
    assert part(make_sample(), rng).image.shape == (4, 4, 3)
    with pytest.raises(ValueError, match="prob must be 1 numbers"):
        RandomChoice([[]], prob=(0.5,))
