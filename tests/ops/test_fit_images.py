"""fit_images: OpenCV's bilinear resize, bit for bit."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fastdet.ops import fit_images, reference


def drawn(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def packed(pictures: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """The bytes of pictures, and where each one lies."""
    starts = np.cumsum([0, *(picture.size for picture in pictures)])
    places = [[int(start), *picture.shape[:2]] for start, picture in zip(starts, pictures, strict=False)]
    return torch.from_numpy(np.concatenate([p.reshape(-1) for p in pictures])), torch.tensor(places)


def resized(picture: np.ndarray, height: int, width: int, device: str = "cpu") -> np.ndarray:
    pixels, places = packed([picture])
    sizes = torch.tensor([[height, width]])
    given = (t.to(device) for t in (pixels, places, sizes))
    return fit_images(*given, (height, width))[0].cpu().numpy()


@pytest.mark.parametrize("seed", range(8))
def test_equals_opencv_at_drawn_sizes(seed: int, device: str) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        height, width, new_height, new_width = (int(n) for n in rng.integers(1, 90, 4))
        picture = drawn(rng, height, width)
        expected = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        found = resized(picture, new_height, new_width, device)
        assert np.array_equal(found, expected), (height, width, new_height, new_width)


@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((480, 640), (800, 1067)),
        ((427, 640), (800, 1199)),
        ((64, 80), (32, 40)),
        ((64, 80), (32, 80)),
        ((64, 80), (64, 80)),
        ((64, 80), (16, 20)),
        ((33, 47), (66, 94)),
        ((1, 1), (7, 5)),
        ((600, 7), (3, 900)),
        ((1080, 1920), (416, 740)),
    ],
    ids=str,
)
def test_equals_opencv_at_sizes_of_note(size: tuple[int, int], new_size: tuple[int, int], device: str) -> None:
    picture = drawn(np.random.default_rng(0), *size)
    expected = cv2.resize(picture, new_size[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resized(picture, *new_size, device), expected)


def test_a_batch_of_several_sizes_is_padded_with_zeros(device: str) -> None:
    rng = np.random.default_rng(1)
    pictures = [drawn(rng, 20, 31), drawn(rng, 16, 8), drawn(rng, 1, 9)]
    sizes = [(30, 40), (8, 4), (2, 40)]
    pixels, places = (t.to(device) for t in packed(pictures))
    found = fit_images(pixels, places, torch.tensor(sizes, device=device), (32, 40))
    assert found.shape == (3, 32, 40, 3)
    for image, picture, (height, width) in zip(found.cpu().numpy(), pictures, sizes, strict=True):
        assert np.array_equal(image[:height, :width], cv2.resize(picture, (width, height)))
        assert not image[height:].any()
        assert not image[:, width:].any()
    planes = fit_images(pixels, places, torch.tensor(sizes, device=device), (32, 40), channels_first=True)
    assert torch.equal(planes, found.permute(0, 3, 1, 2))


def test_equals_the_reference(device: str) -> None:
    rng = np.random.default_rng(2)
    pixels, places = packed([drawn(rng, 9, 14), drawn(rng, 12, 10)])
    sizes = torch.tensor([[13, 11], [6, 5]])
    found = fit_images(*(t.to(device) for t in (pixels, places, sizes)), (13, 12))
    assert torch.equal(found.cpu(), reference.fit_images(pixels, places, sizes, (13, 12)))


def test_no_pictures_are_no_images(device: str) -> None:
    nothing = torch.zeros(0, dtype=torch.uint8, device=device)
    places, sizes = (torch.zeros(0, n, dtype=torch.int64, device=device) for n in (3, 2))
    assert fit_images(nothing, places, sizes, (4, 5)).shape == (0, 4, 5, 3)


WRONG = [
    ([1, 2, 2], [2, 2]),  # one byte too late
    ([0, 3, 2], [2, 2]),
    ([-1, 1, 1], [1, 1]),
    ([0, 0, 2], [1, 1]),
    ([0, 2, 1 << 62], [1, 1]),
    ([0, 2, 2], [5, 1]),
    ([0, 2, 2], [0, 1]),
]


@pytest.mark.parametrize(("place", "size"), WRONG)
def test_a_picture_out_of_bounds_is_named(place: list[int], size: list[int], device: str) -> None:
    pixels = torch.ones(12, dtype=torch.uint8, device=device)
    places, sizes = torch.tensor([place], device=device), torch.tensor([size], device=device)
    if device == "cpu":
        with pytest.raises(RuntimeError, match="picture 0 of"):
            fit_images(pixels, places, sizes, (4, 4))
    else:
        assert not fit_images(pixels, places, sizes, (4, 4)).any()


def test_wrong_arguments_are_named() -> None:
    pixels, places, sizes = torch.ones(12, dtype=torch.uint8), torch.tensor([[0, 2, 2]]), torch.tensor([[2, 2]])
    with pytest.raises(ValueError, match=r"`pixels` must have dtype torch\.uint8"):
        fit_images(pixels.float(), places, sizes, (4, 4))
    with pytest.raises(ValueError, match=r"`sizes` must have shape \[1, 2\]"):
        fit_images(pixels, places, sizes[:, :1], (4, 4))
    with pytest.raises(ValueError, match="`shape` must be at least"):
        fit_images(pixels, places, sizes, (0, 4))
