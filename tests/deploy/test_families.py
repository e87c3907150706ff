"""Every family that exports finds in onnxruntime what it finds in torch: a crowd, padded pictures, an empty one."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.onnx_file import export_model
from fastdet.deploy.runtime import DeployedDetector, OnnxSession
from fastdet.deploy.verify import Limits, compare
from fastdet.structures import Batch, Detections
from fastdet.utils.errors import UnsupportedConfig
from tests.golden.configs import dense_direct, two_stage
from tests.golden.harness import build_filled

CHANNELS = [64, 128, 256, 512]
SIZE = 128

Family = Callable[[], dict[str, Any]]


def of_18(model: Callable[[int, list[int]], dict[str, Any]]) -> Family:
    return lambda: model(18, CHANNELS)


def pictures(size: int) -> tuple[Tensor, Tensor]:
    """Uint8 pixels [3, 3, H, W]: a crowd of blocks, a padded one, and a picture of one colour; and their sizes."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(3, 3, size // 8 + 1, size // 8 + 1, generator=generator) * 255
    pixels = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :size, :size].byte().contiguous()
    pixels[2] = 114
    return pixels, torch.tensor([[size, size], [size - 28, size - 17], [size, size - 40]])


def check(model: dict[str, Any], size: int = SIZE) -> None:
    model = copy.deepcopy(model)
    if "rpn" in model.get("test_cfg", {}):
        model["test_cfg"]["rpn"].update(nms_pre=300, max_per_img=60)
    detector = build_filled(model).eval()
    options = GraphOptions(shape=(size, size), candidates=3000)
    metadata = Metadata(
        classes=(), transforms=(), shape=options.shape, layout=options.layout, whole_images=False, pad_divisor=32,
        mask_threshold=0.5, candidates=options.candidates, rounds=options.rounds,
    )  # fmt: skip
    exported = export_model(detector, options, metadata)
    deployed = DeployedDetector(OnnxSession(exported.SerializeToString()), metadata, "model")
    pixels, sizes = pictures(size)
    outputs = deployed.run(pixels, sizes)
    found = deployed.detections(outputs)
    with torch.inference_mode():
        own = detector.predict(Batch(pixels, sizes, None, ()))
    number = found.boxes.shape[1]
    expected = Detections(*(part[:, :number] for part in own[:3]), own.count.clamp(max=number), own.masks)
    outcome = compare([expected], [found], Limits())
    assert outcome.expected > 50
    assert outcome.holds(Limits()), outcome
    assert outputs["exact"].tolist() == [1, 1, 1]
    assert (found.masks is None) == (own.masks is None)


@pytest.mark.parametrize(
    "family", [of_18(two_stage.faster_rcnn), dense_direct.yolox_nano], ids=["faster_rcnn", "yolox"]
)
def test_onnxruntime_finds_the_same(family: Family) -> None:
    check(family())


@pytest.mark.slow
@pytest.mark.parametrize("family", [dense_direct.fcos_r18, of_18(two_stage.mask_rcnn)], ids=["fcos", "mask_rcnn"])
def test_onnxruntime_finds_the_same_of_other_families(family: Family) -> None:
    check(family())


def test_a_detector_of_given_proposals_is_refused() -> None:
    model = copy.deepcopy(two_stage.faster_rcnn(18, CHANNELS))
    model["type"] = "FastRCNN"
    for part in ("rpn_head",):
        del model[part]
    detector = build_filled(model).eval()
    options = GraphOptions(shape=(SIZE, SIZE))
    metadata = Metadata(
        classes=(), transforms=(), shape=options.shape, layout="hwc", whole_images=False, pad_divisor=32,
        mask_threshold=0.5, candidates=1, rounds=1,
    )  # fmt: skip
    with pytest.raises(UnsupportedConfig, match="takes proposals from outside"):
        export_model(detector, options, metadata)
