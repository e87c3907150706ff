"""The cascade: what one step hands to the next, how steps are weighed and averaged."""

import math

import pytest
import torch
from torch import nn

from fastdet.models.assigners import MaxIoUAssigner
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.criteria.roi import RoICriterion
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.heads.cascade_roi import CascadeFeatures, CascadeRoIHead
from fastdet.models.losses import L1Loss, SoftmaxLoss
from fastdet.models.postprocess.roi import RoIPostprocess
from fastdet.models.samplers import RandomSampler
from fastdet.models.stages import CascadeStage, RoIStage
from fastdet.structures import Detections
from tests.models.helpers import make_targets

OBJECT = [10.0, 10.0, 30.0, 30.0]
SIZES = torch.tensor([[64, 64]])


def make_step(num=4):
    return RoIStage(
        DeltaXYWHBBoxCoder(),
        RoIPostprocess(score_thr=0.05, max_per_img=3),
        assigner=MaxIoUAssigner(0.5, 0.5, min_pos_iou=0.5, match_low_quality=False),
        sampler=RandomSampler(num, 0.5, order="index"),
        criterion=RoICriterion(SoftmaxLoss(), L1Loss()),
    )


def make_proposals(boxes):
    shape = (1, len(boxes))
    labels = torch.zeros(shape, dtype=torch.int64)
    return Detections(torch.tensor([boxes]), torch.zeros(shape), labels, torch.tensor([len(boxes)]))


class FixedSteps(nn.Module):
    """A cascade's heads whose outputs are given, one a step, and which remember what they were asked."""

    with_masks = False

    def __init__(self, *outputs):
        super().__init__()
        self.outputs = [(torch.tensor(logits), torch.tensor(deltas)) for logits, deltas in outputs]
        self.asked = []

    def prepare(self, features):
        return CascadeFeatures(tuple(features))

    def forward(self, features, boxes, valid, *, step):
        self.asked.append((boxes, valid))
        return BBoxOutput(*(part.expand(*valid.shape, -1) for part in self.outputs[step]))


STILL = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))
WIDER = ((0.0, 0.0, 0.0), (0.0, 0.0, math.log(2.0), 0.0))


def test_the_next_step_sees_refined_proposals_and_the_objects_anew():
    head, far = FixedSteps(WIDER, STILL), [40.0, 40.0, 50.0, 50.0]
    stage = CascadeStage([make_step(), make_step()], [1.0, 0.5])
    targets = make_targets([[OBJECT]], [[1]])
    stage.loss(head, (), make_proposals([far]), targets, image_size=(64, 64), sizes=SIZES)
    (first, first_valid), (second, second_valid) = head.asked
    assert first[0, :2].tolist() == [OBJECT, far]
    assert second[0, 0].tolist() == OBJECT  # joined anew: its refined twin of width 40 did not go on
    torch.testing.assert_close(second[0, 1], torch.tensor([35.0, 40.0, 55.0, 50.0]))
    assert first_valid.sum() == second_valid.sum() == 2


def test_refined_boxes_are_clipped_to_the_image():
    head = FixedSteps(((0.0, 0.0, 0.0), (0.0, 0.0, math.log(8.0), 0.0)), STILL)
    stage = CascadeStage([make_step(), make_step()], [1.0, 0.5])
    stage.loss(
        head, (), make_proposals([[40.0, 40.0, 50.0, 50.0]]), make_targets([[]]), image_size=(64, 64), sizes=SIZES
    )
    torch.testing.assert_close(head.asked[1][0][0, 0], torch.tensor([5.0, 40.0, 64.0, 50.0]))


def test_each_steps_losses_have_its_number_and_weight():
    head = FixedSteps(STILL, STILL)
    stage = CascadeStage([make_step(), make_step()], [1.0, 0.5])
    losses = stage.loss(
        head, (), make_proposals([[40.0, 40.0, 50.0, 50.0]]), make_targets([[OBJECT]]), image_size=(64, 64), sizes=SIZES
    )
    assert losses["s0.loss_cls"].item() == pytest.approx(math.log(3))
    assert losses["s1.loss_cls"].item() == pytest.approx(math.log(3) / 2)
    assert losses["s0.acc"].item() == losses["s1.acc"].item() == 50
    assert set(losses) == {f"s{i}.{name}" for i in range(2) for name in ("loss_cls", "loss_bbox", "acc")}


def test_deltas_of_the_objects_class_refine_a_positive_and_those_of_the_likeliest_class_a_negative():
    deltas = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, math.log(2.0), 0.0)  # class 1 doubles the width
    head = FixedSteps(((5.0, 0.0, 9.0), deltas), STILL)
    stage = CascadeStage([make_step(num=8), make_step(num=8)], [1.0, 1.0])
    near, far = [10.0, 10.0, 30.0, 28.0], [40.0, 40.0, 50.0, 50.0]
    targets = make_targets([[OBJECT]], [[1]])
    stage.loss(head, (), make_proposals([near, far]), targets, image_size=(64, 64), sizes=SIZES)
    boxes = head.asked[1][0][0]
    assert [40.0, 40.0, 50.0, 50.0] in boxes.tolist()  # the likeliest class is 0, the background aside
    torch.testing.assert_close(boxes[1:3].amin(0), torch.tensor([0.0, 10.0, 40.0, 28.0]))


def test_a_prediction_averages_logits_and_takes_the_last_steps_boxes():
    head = FixedSteps(((4.0, 0.0, 0.0), (0.0, 0.0, math.log(2.0), 0.0)), ((0.0, 0.0, 0.0), (0.1, 0.0, 0.0, 0.0)))
    stage = CascadeStage([make_step(), make_step()], [1.0, 0.5])
    found = stage.predict(head, (), make_proposals([[20.0, 20.0, 30.0, 30.0]]), SIZES)
    best = math.exp(2) / (math.exp(2) + 2)
    assert found.scores[0, 0].item() == pytest.approx(best)
    torch.testing.assert_close(found.boxes[0, 0], torch.tensor([17.0, 20.0, 37.0, 30.0]))  # 20 wide, moved by 2


def test_numbers_of_steps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 steps, but 1 weights"):
        CascadeStage([make_step(), make_step()], [1.0])
    with pytest.raises(ValueError, match="2 bbox_heads, but 1 bbox_roi_extractors"):
        CascadeRoIHead([nn.Identity()], [nn.Identity(), nn.Identity()])
