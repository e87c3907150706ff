"""Two-stage detectors compute what MMDetection 3.3.0 does: detections, masks, losses, gradient norms."""

from functools import cache

import pytest
import torch
from torch import nn

from fastdet.models.results import to_instances
from tests.golden import recipe
from tests.golden.configs.two_stage import MODELS
from tests.golden.harness import Golden, build_filled, gradient_error, loss_error, losses, lowest_match, predict

pytestmark = pytest.mark.slow

MASK_RCNN = "mask_rcnn__mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco"


@cache
def filled(name: str) -> nn.Module:
    """One detector for all tests of a golden: none of them changes a weight or a statistic."""
    return build_filled(MODELS[name])


@pytest.mark.parametrize("name", MODELS)
def test_detections_equal_mmdetections(name: str) -> None:
    golden = Golden.load(name)
    found = predict(filled(name), golden)
    assert [f["n"] for f in found] == [e["n"] for e in golden.record["predictions"]]
    assert lowest_match(golden, found) >= golden.least_matched


@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_equal_mmdetections(name: str) -> None:
    golden = Golden.load(name)
    values, norms = losses(filled(name), golden)
    assert loss_error(golden, values) <= golden.loss_tolerance
    shares = {k: v for k, v in golden.record["losses"].items() if "acc" in k}
    assert {k: values[k] for k in shares} == pytest.approx(shares)
    assert gradient_error(golden, norms) <= golden.gradient_tolerance


def test_pasted_masks_cover_as_many_pixels_as_mmdetections() -> None:
    """A pixel whose probability is within rounding of one half may fall on either side."""
    golden = Golden.load(MASK_RCNN)
    detector = filled(MASK_RCNN).eval()
    batch = recipe.batch(golden.record["num_classes"])
    results = to_instances(detector.predict(batch), batch.metas, detector.mask_threshold)
    for result, record in zip(results, golden.record["predictions"], strict=True):
        assert result.masks is not None
        areas = result.masks.flatten(1).sum(1)
        difference = (areas - torch.tensor(record["mask_area"])).abs()
        assert difference.max() <= 2
        assert (difference == 0).sum() >= 90


def test_slots_without_a_roi_change_nothing() -> None:
    """The path of a GPU, which computes empty slots too: most of the 128 for positives of each image are."""
    golden, detector = Golden.load(MASK_RCNN), filled(MASK_RCNN)
    detector.roi_head.trims_on_cpu = False
    values, norms = losses(detector, golden)
    detector.roi_head.trims_on_cpu = True
    assert loss_error(golden, values) <= golden.loss_tolerance
    assert gradient_error(golden, norms) <= golden.gradient_tolerance


def test_channels_last_gives_the_same_detections() -> None:
    name = "faster_rcnn__faster-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco"
    golden, detector = Golden.load(name), build_filled(MODELS[name]).to(memory_format=torch.channels_last)
    assert lowest_match(golden, predict(detector, golden)) >= golden.least_matched
