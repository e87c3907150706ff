"""What bucket and offset losses are averaged over."""

import math

import pytest
import torch

from fastdet.models.coders import BucketingBBoxCoder
from fastdet.models.criteria import BucketAnchorCriterion, BucketRoICriterion
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.losses import BinaryCrossEntropyLoss, FocalLoss, L1Loss, SoftmaxLoss
from fastdet.models.samplers import Selection
from fastdet.structures import DenseOutput
from tests.models.helpers import make_targets

CODER = BucketingBBoxCoder(4, 2.0)
ROIS = torch.tensor([[[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 0.0, 0.0]]])
TARGETS = make_targets([[[7.0, 32.0, 24.0, 69.0]]], [[1]])
POSITIVE, NEGATIVE = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
OFFSETS = 0.2 + 0.8 + 0.1 + 0.1 + 0.05 + 0.95  # those that are trained


def make_selection(candidate):
    index = torch.zeros(1, 3, dtype=torch.int64)
    return Selection(candidate, index, POSITIVE, NEGATIVE, torch.tensor(1.0))


def test_rois_are_averaged_over_all_that_were_sampled() -> None:
    criterion = BucketRoICriterion(SoftmaxLoss(), BinaryCrossEntropyLoss(), L1Loss())
    output = BBoxOutput(torch.zeros(1, 3, 3), torch.zeros(1, 3, 16, requires_grad=True))
    losses = criterion(output, ROIS, CODER, make_selection(torch.arange(3)[None]), TARGETS)
    assert losses["loss_cls"].item() == pytest.approx(math.log(3))
    assert losses["loss_bbox_cls"].item() == pytest.approx(6 * math.log(2) / (2 * 4))  # six buckets count
    assert losses["loss_bbox_reg"].item() == pytest.approx(OFFSETS / 2)
    (losses["loss_bbox_cls"] + losses["loss_bbox_reg"]).backward()
    assert output.deltas.grad.isfinite().all()
    assert (output.deltas.grad[0, 1:] == 0).all()


def test_priors_are_averaged_over_buckets_and_trained_offsets_of_the_positives() -> None:
    criterion = BucketAnchorCriterion(FocalLoss(), BinaryCrossEntropyLoss(), L1Loss())
    output = DenseOutput(torch.zeros(1, 3, 2), torch.zeros(1, 3, 16), ((1, 3),))
    losses = criterion(output, ROIS[0], CODER, make_selection(None), TARGETS)
    assert losses["loss_bbox_cls"].item() == pytest.approx(6 * math.log(2) / (4 * 2))
    assert losses["loss_bbox_reg"].item() == pytest.approx(OFFSETS / (4 * 2))
    # two priors count in two classes each: one of the four labels is positive
    assert losses["loss_cls"].item() == pytest.approx(0.25 * math.log(2) * (0.25 + 3 * 0.75))
