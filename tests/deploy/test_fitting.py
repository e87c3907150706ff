"""The resize that a device does is the one of the test transforms, bit for bit."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fastdet.data.collate import collate
from fastdet.data.pipeline import prepare
from fastdet.data.transforms.loading import LoadImageFromFile
from fastdet.data.transforms.pad import Pad
from fastdet.data.transforms.resize import FixScaleResize, Resize
from fastdet.deploy import BucketedDetector, DeployedDetector
from fastdet.deploy.fitting import Fitting
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.slots import SlotSession
from fastdet.utils.errors import DataError

LOAD = LoadImageFromFile()


@pytest.mark.parametrize(
    "resize",
    [
        Resize((80, 60), keep_ratio=True), FixScaleResize((80, 60), keep_ratio=True), Resize((64, 48)),
        Resize(scale_factor=(0.7, 0.9)), Resize((1, 60), keep_ratio=True),
    ],
    ids=["ratio", "down", "exactly", "factor", "tiny"],
)  # fmt: skip
@pytest.mark.parametrize("channels_first", [False, True])
def test_images_are_those_of_the_transforms(resize: Resize, channels_first: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((50, 37), (96, 128), (33, 61), (1, 90))]
    cv2.imwrite(str(tmp_path / "a.png"), arrays[0])
    images = [tmp_path / "a.png", *arrays[1:], arrays[1][:, :, 0]]
    fitting = Fitting.of((LOAD, resize))
    assert fitting is not None
    pictures = fitting.read(images, 7)
    assert pictures is not None
    expected = collate([prepare(image, (LOAD, resize), i) for i, image in enumerate(images, 7)], fixed_size=(90, 128))
    found = Fitting.fit(pictures, (90, 128), torch.device("cpu"), channels_first=channels_first)
    if not channels_first:
        found = found.permute(0, 3, 1, 2)
    assert torch.equal(found, expected.pixels)
    assert pictures.metas == expected.metas


def test_other_transforms_are_left_to_the_host() -> None:
    assert Fitting.of((LOAD, Resize((8, 8)), Pad(size_divisor=32))) is None
    assert Fitting.of((LOAD, Resize((8, 8), interpolation="nearest"))) is None
    assert Fitting.of((LoadImageFromFile(to_float32=True), Resize((8, 8)))) is None
    assert Fitting.of((Resize((8, 8)),)) is None
    fitting = Fitting.of((LOAD, Resize((8, 8))))
    assert fitting is not None
    assert fitting.read([np.zeros((4, 4, 3), np.float32)]) is None


def test_detections_of_both_ways_are_equal() -> None:
    metadata = Metadata(
        classes=("a",), transforms=({"type": "LoadImageFromFile"}, {"type": "Resize", "scale": (40, 30)}),
        shape=(32, 64), layout="hwc", whole_images=False, pad_divisor=1, mask_threshold=0.5, candidates=1, rounds=1,
    )  # fmt: skip

    def prepare_launch(images: torch.Tensor, sizes: torch.Tensor):  # type: ignore[no-untyped-def]
        def launch() -> list[torch.Tensor]:
            values = images.flatten(1).float()
            boxes = torch.stack((values.mean(1), values.amax(1), *sizes.float().unbind(1)), dim=1)[:, None]
            one = torch.ones(len(images), dtype=torch.int32)
            return [boxes, values.std(1)[:, None], one[:, None], one]

        return launch

    names = ("boxes", "scores", "labels", "num")
    session = SlotSession("none", prepare_launch, names, torch.device("cpu"), fixed={"exact": 1})
    deployed = DeployedDetector(session, metadata, "model.pt2")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((50, 37), (96, 128))]
    assert deployed.fitting is not None
    pictures = deployed.fitting.read(images)
    assert pictures is not None
    found = deployed.predict_pictures(pictures)
    batch = collate([prepare(image, deployed.transforms, i) for i, image in enumerate(images)])
    expected = deployed.predict_batch(batch)
    assert all(torch.equal(a, b) for a, b in zip(found[:4], expected[:4], strict=True))
    assert pictures.metas == batch.metas
    several = BucketedDetector([deployed])
    assert torch.equal(several.predict_pictures(pictures).boxes, found.boxes)
    small = DeployedDetector(session, Metadata(**{**vars(metadata), "shape": (32, 32)}), "model.pt2")
    with pytest.raises(DataError, match="--shape 30 40"):
        small.predict_pictures(pictures)
