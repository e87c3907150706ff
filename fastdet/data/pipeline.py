"""How transforms follow one another, and samples that come from no dataset."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from fastdet.structures import Sample
from fastdet.utils.errors import DataError, FastdetError


class Transform(Protocol):
    """One step: a new Sample, or None to ask for another image. All chance comes from `rng`."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample | None: ...


@runtime_checkable
class MixingTransform(Protocol):
    """A step that takes further images: a new Sample, or None to ask for another one.

    `draw` gives another random image of the dataset, as far transformed as the sample. It draws from `rng`, so that
    the further images too depend on nothing but the sample's place in the training.
    """

    def mix(self, sample: Sample, draw: Callable[[], Sample], rng: np.random.Generator) -> Sample | None: ...


Step = Transform | MixingTransform
Image = str | os.PathLike[str] | np.ndarray
"""A picture: its path, or its pixels as [H, W, 3] BGR (or [H, W] grey), 0..255."""


def run_transforms(
    transforms: Sequence[Step],
    sample: Sample,
    rng: np.random.Generator,
    draw: Callable[[int], Sample] | None = None,
) -> Sample | None:
    """The sample after all transforms, or None as soon as one of them gives it up.

    Args:
        draw: gives another image after the given number of steps, for steps that mix; None where there are no others.

    Raises:
        DataError: a transform failed; the message names it and the image.
    """
    present: Sample | None = sample
    for number, transform in enumerate(transforms):
        assert present is not None
        try:
            if isinstance(transform, MixingTransform):
                if draw is None:
                    raise ValueError("it mixes images of a dataset, and this image comes from none")
                present = transform.mix(present, partial(draw, number), rng)
            else:
                present = transform(present, rng)
        except FastdetError:
            raise
        except Exception as problem:
            name = type(transform).__name__
            where = sample.path or f"image {sample.image_id}"
            raise DataError(f"{where}: {name} failed: {type(problem).__name__}: {problem}") from problem
        if present is None:
            return None
    return present


def prepare(image: Image, transforms: Sequence[Step], index: int = 0) -> Sample:
    """The sample of a picture that comes from no dataset, after its transforms.

    Raises:
        DataError: the picture cannot be read, or a transform gave it up.
    """
    start = sample_of_array(image, index) if isinstance(image, np.ndarray) else sample_of_file(os.fspath(image), index)
    sample = run_transforms(transforms, start, np.random.default_rng(0))
    if sample is None:
        raise DataError(f"{start.path or f'image {index}'}: the test transforms gave no picture")
    return sample


def sample_of_file(path: str, image_id: int | str = 0) -> Sample:
    """A sample without annotations for a picture that the pipeline's LoadImageFromFile will read."""
    return _bare(np.zeros((0, 0, 3), np.uint8), path, image_id)


def sample_of_array(image: np.ndarray, image_id: int | str = 0, path: str = "") -> Sample:
    """A sample without annotations for decoded pixels; LoadImageFromFile leaves them as they are.

    Args:
        image: [H, W, 3] BGR, or [H, W] grey, uint8 or float 0..255.

    Raises:
        ValueError: another shape.
    """
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image must be an array [H, W, 3] (BGR) or [H, W], not of shape {image.shape}")
    return _bare(image, path, image_id)


def _bare(image: np.ndarray, path: str, image_id: int | str) -> Sample:
    return Sample(
        image=image,
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        ignore=np.zeros(0, bool),
        masks=None,
        image_id=image_id,
        path=path,
        file_size=image.shape[:2],
    )
