"""Cascades as a whole, built from their model dicts: no shape of theirs depends on data."""

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fastdet.compat.models import translate_model
from fastdet.models import detectors
from fastdet.registry import MODEL_PARTS, build
from fastdet.structures import Batch, MaskBuffer, Targets
from tests.golden import recipe
from tests.golden.configs.two_stage import MODELS_18


def fake_batch(mode: FakeTensorMode, batch: Batch) -> Batch:
    """A batch without values, and semantic maps beside it."""
    targets = batch.targets
    assert targets is not None
    assert targets.masks is not None
    boxes, labels, count, ignore_boxes, ignore_count = (mode.from_tensor(t) for t in targets[:5])
    masks = MaskBuffer(*(mode.from_tensor(t) for t in targets.masks))
    maps = torch.zeros(2, *batch.pixels.shape[2:], dtype=torch.uint8)
    return batch._replace(
        pixels=mode.from_tensor(batch.pixels),
        sizes=mode.from_tensor(batch.sizes),
        targets=Targets(boxes, labels, count, ignore_boxes, ignore_count, masks, maps),
    )


@pytest.mark.parametrize("name", MODELS_18)
def test_training_and_prediction_have_no_shape_that_depends_on_data(name: str) -> None:
    """Fake tensors have no values: reading one, or a shape that depends on one, is an error."""
    spec, _ = translate_model(copy.deepcopy(MODELS_18[name]))
    goldens = recipe.batch(80)
    with FakeTensorMode() as mode:
        detector = build(spec, MODEL_PARTS)
        assert isinstance(detector, detectors.TwoStageDetector)
        batch = fake_batch(mode, goldens)
        losses = detector.train().loss(batch)
        assert any(key.startswith("s2.loss_bbox") for key in losses) is ("num_stages" in MODELS_18[name]["roi_head"])
        torch.stack([value for key, value in losses.items() if "loss" in key]).sum().backward()
        detections = detector.eval().predict(batch)
        assert detections.boxes.shape == (2, 100, 4)
        output = detector(batch.pixels)
        assert output.rois.logits.shape == (2, 1000, 82 if name == "seesaw" else 81)


def test_a_loss_that_remembers_is_saved_with_its_head() -> None:
    with torch.device("meta"):
        detector = build(translate_model(copy.deepcopy(MODELS_18["seesaw"]))[0], MODEL_PARTS)
    names = [name for name in detector.state_dict() if "cum_samples" in name]
    assert names == [f"roi_head.bbox_head.{step}.loss_cls.cum_samples" for step in range(3)]
