"""Fast R-CNN: the second stage of Faster R-CNN on proposals that come with the batch."""

import copy

import pytest
import torch

from fastdet.compat.models import translate_model
from fastdet.models.detectors import FastRCNN, TwoStageDetector
from fastdet.models.stages.roi import filled
from fastdet.registry import MODEL_PARTS, build
from fastdet.structures import Batch, Proposals
from tests.golden import recipe
from tests.golden.configs.two_stage import MODELS_18, faster_rcnn


def pair() -> tuple[TwoStageDetector, FastRCNN, Batch]:
    """A Faster R-CNN, the Fast R-CNN of its second stage, and a batch with the former's proposals."""
    model = faster_rcnn(18, [64, 128, 256, 512])
    model["roi_head"]["bbox_head"]["fc_out_channels"] = 16
    faster = build(translate_model(copy.deepcopy(model))[0], MODEL_PARTS)
    del model["rpn_head"]
    fast = build(translate_model(model | {"type": "FastRCNN"})[0], MODEL_PARTS)
    assert isinstance(faster, TwoStageDetector)
    assert isinstance(fast, FastRCNN)
    recipe.fill(faster)
    recipe.fill(fast)
    batch = recipe.batch(80)
    faster.eval()
    assert faster.neck is not None
    with torch.no_grad():
        levels = faster.neck(faster.backbone(faster.preprocess(batch.pixels, batch.sizes)))
        found = faster.rpn.predict(faster.rpn_head(levels), batch.sizes)
    assert filled(found).any()
    return faster, fast.eval(), batch._replace(proposals=Proposals(found.boxes, found.count))


@pytest.mark.slow
def test_its_detections_are_those_of_faster_rcnn_with_the_same_proposals() -> None:
    faster, fast, batch = pair()
    torch.testing.assert_close(fast.predict(batch), faster.predict(batch), rtol=0, atol=0)


def test_it_has_the_keys_of_faster_rcnn_without_the_first_stage() -> None:
    model = copy.deepcopy(MODELS_18["double_head"])
    with torch.device("meta"):
        faster = build(translate_model(copy.deepcopy(model))[0], MODEL_PARTS)
        del model["rpn_head"]
        fast = build(translate_model(model | {"type": "FastRCNN"})[0], MODEL_PARTS)
    assert list(fast.state_dict()) == [key for key in faster.state_dict() if not key.startswith("rpn_head.")]


def test_a_batch_without_proposals_is_refused() -> None:
    model = copy.deepcopy(MODELS_18["cascade_mask_rcnn"]) | {"type": "FastRCNN"}
    del model["rpn_head"]
    with torch.device("meta"):
        detector = build(translate_model(model)[0], MODEL_PARTS)
    with pytest.raises(ValueError, match="needs a batch with proposals"):
        detector.loss(recipe.batch(80))
    with pytest.raises(ValueError, match="needs a batch with proposals"):
        detector.predict(recipe.batch(80))
