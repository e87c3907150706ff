"""Thresholds that follow the training, by hand."""

import pytest
import torch

from fastdet.models.assigners import MaxIoUAssigner
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.criteria import RoICriterion
from fastdet.models.losses import SmoothL1Loss, SoftmaxLoss
from fastdet.models.postprocess.roi import RoIPostprocess
from fastdet.models.samplers import RandomSampler
from fastdet.models.stages import DynamicStage, RoIStage
from fastdet.structures import Detections
from tests.models.helpers import make_targets

OBJECTS = [[[0.0, 0.0, 10.0, 10.0]], [[0.0, 0.0, 20.0, 20.0]]]
# The first image's proposals overlap with its object by 0.8 and 0.5, the second one's by 0.9 and not at all.
PROPOSALS = [[[0.0, 0.0, 10.0, 8.0], [0.0, 0.0, 10.0, 5.0]], [[0.0, 0.0, 20.0, 18.0], [90.0, 90.0, 99.0, 99.0]]]


def make_stage(**changes):
    boxes = RoIStage(
        DeltaXYWHBBoxCoder(),
        RoIPostprocess(),
        assigner=MaxIoUAssigner(0.4, 0.4, min_pos_iou=0.4, match_low_quality=False),
        sampler=RandomSampler(4, 0.5, add_gt_as_proposals=False, order="index"),
        criterion=RoICriterion(SoftmaxLoss(), SmoothL1Loss(beta=1.0)),
    )
    settings = {"iou_topk": 1, "beta_topk": 1, "update_iter_interval": 2, "initial_iou": 0.4, "initial_beta": 1.0}
    return DynamicStage(boxes, **(settings | changes))


def follow(stage, objects=OBJECTS):
    boxes, targets = torch.tensor(PROPOSALS), make_targets(objects, slots=1)
    proposals = Detections(boxes, torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.int64), torch.tensor([2, 2]))
    valid = torch.ones(2, 2, dtype=torch.bool)
    stage.follow(proposals, stage.boxes.sample(boxes, valid, targets), targets)


def test_threshold_and_bend_change_after_as_many_batches_as_wanted() -> None:
    """The largest overlaps are 0.8 and 0.9. Of three positives the centres are off by 1/8, 1/2 and 1/18 of the height,
    half of it in the mean with x; the second smallest of them counts."""
    stage = make_stage()
    follow(stage)
    assert stage.boxes.assigner.pos_iou_thr == 0.4
    follow(stage)
    assert float(stage.boxes.assigner.pos_iou_thr) == pytest.approx(0.85)
    assert float(stage.boxes.assigner.neg_iou_range[1]) == pytest.approx(0.85)
    assert float(stage.boxes.criterion.loss_bbox.beta) == pytest.approx(0.125 / 2)
    follow(stage)  # the box of 0.8 is no positive any more, and nothing changes yet
    assert float(stage.boxes.assigner.pos_iou_thr) == pytest.approx(0.85)
    follow(stage)
    assert float(stage.boxes.criterion.loss_bbox.beta) == pytest.approx(1 / 18 / 2)


def test_the_first_values_are_bounds() -> None:
    stage = make_stage(initial_iou=0.95, initial_beta=0.05)
    follow(stage)
    follow(stage)
    assert float(stage.boxes.assigner.pos_iou_thr) == pytest.approx(0.95)
    assert float(stage.boxes.criterion.loss_bbox.beta) == pytest.approx(0.05)


def test_without_positives_the_bend_stays() -> None:
    stage = make_stage(update_iter_interval=1)
    follow(stage, [[], []])
    assert float(stage.boxes.criterion.loss_bbox.beta) == 1
    assert float(stage.boxes.assigner.pos_iou_thr) == pytest.approx(0.4)
