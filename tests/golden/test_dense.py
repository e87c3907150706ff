"""Dense families compute what MMDetection 3.3.0 computes: detections, losses and gradient norms."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.golden import recipe
from tests.golden.configs import dense, dense_direct
from tests.golden.harness import Golden, build_filled, gradient_error, loss_error, losses, lowest_match, predict

MODELS: list[tuple[str, Callable[[], dict[str, Any]]]] = [
    ("retinanet__retinanet_r18_fpn_1x_coco", dense.retinanet_r18),
    ("rpn__rpn_r50-caffe_fpn_1x_coco", dense.rpn_r50_caffe),
    ("fcos__fcos_r50-caffe_fpn_gn-head_1x_coco", dense_direct.fcos_r50_caffe),
    ("fcos__fcos_r18_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco", dense_direct.fcos_r18),
    ("atss__atss_r50_fpn_1x_coco", dense_direct.atss_r50),
    ("ghm__retinanet_r50_fpn_ghm-1x_coco", dense.ghm_r50),
    ("yolox__yolox_nano_8xb8-300e_coco", dense_direct.yolox_nano),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), MODELS)
def test_detections_equal_mmdetections(name: str, model: Callable[[], dict[str, Any]]) -> None:
    golden = Golden.load(name)
    found = predict(build_filled(model()), golden)
    assert [f["n"] for f in found] == [e["n"] for e in golden.record["predictions"]]
    assert lowest_match(golden, found) >= golden.least_matched


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), MODELS)
def test_losses_and_gradients_equal_mmdetections(name: str, model: Callable[[], dict[str, Any]]) -> None:
    golden = Golden.load(name)
    values, norms = losses(build_filled(model()), golden)
    assert loss_error(golden, values) <= golden.loss_tolerance
    assert gradient_error(golden, norms) <= golden.gradient_tolerance


@pytest.mark.slow
def test_channels_last_gives_the_same_detections() -> None:
    golden = Golden.load("retinanet__retinanet_r18_fpn_1x_coco")
    detector = build_filled(dense.retinanet_r18()).to(memory_format=torch.channels_last)
    assert lowest_match(golden, predict(detector, golden)) >= golden.least_matched


def test_the_recipes_images_are_those_of_the_record() -> None:
    assert [int(recipe.image(i).sum()) for i in range(2)] == [32339540, 24101609]
