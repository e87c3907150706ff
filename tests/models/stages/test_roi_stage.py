"""The RoI stage: what is sampled, what the losses count, what is predicted."""

import math

import pytest
import torch
from torch import nn

from fastdet.models.assigners import MaxIoUAssigner
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.criteria.roi import MaskCriterion, RoICriterion
from fastdet.models.heads.bbox import BBoxOutput, ConvFCBBoxHead
from fastdet.models.heads.fcn_mask import FCNMaskHead
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.layers.norm import batch_norm
from fastdet.models.losses import L1Loss, MaskLoss, SoftmaxLoss
from fastdet.models.postprocess.roi import RoIPostprocess
from fastdet.models.samplers import RandomSampler
from fastdet.models.stages.roi import RoIStage
from fastdet.structures import Detections, MaskBuffer, Targets

C = 3  # classes


def make_stage(num=8, pos_fraction=0.5, **changes):
    parts = {
        "coder": DeltaXYWHBBoxCoder(),
        "postprocess": RoIPostprocess(score_thr=0.05, iou_threshold=0.5, max_per_img=5),
        "assigner": MaxIoUAssigner(0.5, 0.5, min_pos_iou=0.5, match_low_quality=False),
        "sampler": RandomSampler(num, pos_fraction, order="index"),
        "criterion": RoICriterion(SoftmaxLoss(), L1Loss()),
        "mask_criterion": MaskCriterion(MaskLoss(), mask_size=4),
    }
    return RoIStage(**(parts | changes))


def make_proposals(boxes, count):
    boxes = torch.tensor(boxes, dtype=torch.float32)
    shape = boxes.shape[:2]
    return Detections(boxes, torch.zeros(shape), torch.zeros(shape, dtype=torch.int64), torch.tensor(count))


def make_targets(objects, labels, masks=False):
    """Lists of boxes and labels per image, padded to 8 slots; masks fill the boxes' left halves."""
    boxes, classes = torch.zeros(len(objects), 8, 4), torch.zeros(len(objects), 8, dtype=torch.int64)
    bits, windows = [], torch.zeros(len(objects), 8, 4, dtype=torch.int32)
    for image, (its_boxes, its_labels) in enumerate(zip(objects, labels, strict=True)):
        for slot, (box, label) in enumerate(zip(its_boxes, its_labels, strict=True)):
            boxes[image, slot], classes[image, slot] = torch.tensor(box, dtype=torch.float32), label
            x, y, w, h = (int(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
            windows[image, slot] = torch.tensor([x, y, w, h])
            full = torch.zeros(h, w, dtype=torch.uint8)
            full[:, : w // 2] = 1
            bits.append(full.flatten())
    areas = (windows[..., 2] * windows[..., 3]).flatten().long()
    buffer = MaskBuffer(
        torch.cat([*bits, torch.zeros(0, dtype=torch.uint8)]), areas.cumsum(0) - areas, windows.view(-1, 4)
    )
    count = torch.tensor([len(b) for b in objects])
    none = torch.zeros(len(objects), 0, 4), torch.zeros(len(objects), dtype=torch.int64)
    return Targets(boxes, classes, count, *none, masks=buffer if masks else None)


class FixedHead(nn.Module):
    """A second stage whose output is given, and which remembers what it was asked."""

    with_masks = False

    def __init__(self, logits, deltas):
        super().__init__()
        self.output = BBoxOutput(logits, deltas)
        self.asked = None

    def forward(self, features, boxes, valid):
        self.asked = boxes, valid
        batch, slots = valid.shape
        return BBoxOutput(*(o.expand(batch, slots, -1) for o in self.output))


def fixed_head(logits=(0.0, 0.0, 0.0, 0.0), deltas=(0.0,) * 4 * C):
    return FixedHead(torch.tensor(logits), torch.tensor(deltas))


def real_head(norm=None, **changes):
    torch.manual_seed(0)

    def extractor(features, rois):
        box = rois[:, 1:] / 16
        return torch.stack([box.roll(i, 1) for i in range(4)], 1)[:, :, :, None] * torch.ones(4)  # [R, 4, 4, 4]

    sizes = {"in_channels": 4, "num_classes": C, "conv_out_channels": 4, "norm": norm}
    bbox = ConvFCBBoxHead(roi_feat_size=4, num_shared_convs=1, num_shared_fcs=1, fc_out_channels=8, **sizes)
    mask = FCNMaskHead(num_convs=1, upsample=None, **sizes)
    return StandardRoIHead(extractor, bbox, mask_head=mask, **changes)


OBJECT = [10.0, 10.0, 30.0, 30.0]


def test_objects_are_sampled_before_proposals_and_positives_before_negatives():
    stage, head = make_stage(num=4), fixed_head()
    far, near = [50.0, 50.0, 60.0, 60.0], [10.0, 10.0, 28.0, 30.0]
    stage.loss(head, (), make_proposals([[far, near]], [2]), make_targets([[OBJECT]], [[1]]), image_size=(64, 64))
    boxes, valid = head.asked
    assert boxes[0, :3].tolist() == [OBJECT, near, far]
    assert valid.tolist() == [[True, True, True, False]]


def test_without_add_gt_as_proposals_only_proposals_are_sampled():
    stage = make_stage(sampler=RandomSampler(4, 0.5, add_gt_as_proposals=False, order="index"))
    head = fixed_head()
    stage.loss(head, (), make_proposals([[OBJECT]], [1]), make_targets([[OBJECT]], [[1]]), image_size=(64, 64))
    assert head.asked[1].sum() == 1


def test_losses_are_averaged_over_the_sampled_rois():
    # One object of class 1 (which joins as a positive) and two proposals: one negative, and one positive of which the
    # width is 18/20, so that the delta to the object is dx = 1/18, dw = log(20/18).
    stage, head = make_stage(num=8), fixed_head(logits=(0.0, math.log(3.0), 0.0, 0.0))
    losses = stage.loss(
        head,
        (),
        make_proposals([[[50.0, 50.0, 60.0, 60.0], [10.0, 10.0, 28.0, 30.0]]], [2]),
        make_targets([[OBJECT]], [[1]]),
        image_size=(64, 64),
    )
    # Class 1 has probability 3/6, the background 1/6.
    assert losses["loss_cls"].item() == pytest.approx((2 * math.log(2) + math.log(6)) / 3, rel=1e-6)
    assert losses["loss_bbox"].item() == pytest.approx((1 / 18 + math.log(20 / 18)) / 3, rel=1e-5)
    assert losses["acc"].item() == pytest.approx(200 / 3)


def test_decoded_boxes_are_compared_in_pixels():
    stage, head = make_stage(criterion=RoICriterion(SoftmaxLoss(), L1Loss(), reg_decoded_bbox=True)), fixed_head()
    losses = stage.loss(
        head,
        (),
        make_proposals([[[10.0, 10.0, 28.0, 30.0]]], [1]),
        make_targets([[OBJECT]], [[1]]),
        image_size=(64, 64),
    )
    assert losses["loss_bbox"].item() == pytest.approx(2 / 2, rel=1e-6)  # x2 is off by 2, of two RoIs


def test_a_positive_weight_scales_the_class_loss_of_positives():
    proposals, targets = make_proposals([[[50.0, 50.0, 60.0, 60.0]]], [1]), make_targets([[OBJECT]], [[1]])
    stage = make_stage(criterion=RoICriterion(SoftmaxLoss(), L1Loss(), pos_weight=2.0))
    losses = stage.loss(fixed_head(), (), proposals, targets, image_size=(64, 64))
    assert losses["loss_cls"].item() == pytest.approx((2 + 1) * math.log(4) / 2, rel=1e-6)


def test_class_agnostic_deltas_serve_every_class():
    proposals, targets = make_proposals([[[10.0, 10.0, 28.0, 30.0]]], [1]), make_targets([[OBJECT]], [[2]])
    losses = make_stage().loss(fixed_head(deltas=(0.0,) * 4), (), proposals, targets, image_size=(64, 64))
    assert losses["loss_bbox"].item() == pytest.approx((1 / 18 + math.log(20 / 18)) / 2, rel=1e-5)


def training_case():
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(2, 6, 2, 2, generator=generator) * 56
    boxes = torch.cat([corners.amin(2), corners.amax(2) + 6], dim=2)
    boxes[:, 1] = torch.tensor([11.0, 9.0, 30.0, 29.0])
    proposals = make_proposals(boxes.tolist(), [6, 3])
    return proposals, make_targets([[OBJECT, [40.0, 4.0, 60.0, 24.0]], [OBJECT]], [[1, 2], [0]], masks=True)


def run(head, stage):
    head.train()
    losses = stage.loss(head, (), *training_case(), image_size=(64, 64))
    sum(v for k, v in losses.items() if "loss" in k).backward()
    state = {k: v.clone() for k, v in head.state_dict().items()}
    return losses, {n: p.grad for n, p in head.named_parameters()}, state


@pytest.mark.parametrize("norm", [None, "BN"])
def test_fewer_proposals_than_slots_change_nothing(norm):
    """12 RoIs in 16 or in 64 slots: losses, gradients and batch-norm statistics are the same."""
    results = []
    for num in (16, 64):
        head = real_head(norm and batch_norm())
        head.trims_on_cpu = False
        results.append(run(head, make_stage(num=num, pos_fraction=0.5)))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)
    assert {"loss_cls", "loss_bbox", "loss_mask", "acc"} == set(results[0][0])


@pytest.mark.parametrize("norm", [None, "BN"])
def test_trimming_to_the_real_rois_gives_the_same_numbers(norm):
    results = []
    for trims in (True, False):
        head = real_head(norm and batch_norm())
        head.trims_on_cpu = trims
        results.append(run(head, make_stage(num=16)))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trims", [True, False])
def test_predictions_are_the_same_with_and_without_trimming(trims):
    head, stage = real_head().eval(), make_stage()
    nn.init.normal_(head.bbox_head.fc_cls.weight, generator=torch.Generator().manual_seed(2))
    sizes = torch.tensor([[64, 64], [50, 60]])
    expected = stage.predict(head, (), training_case()[0], sizes)
    assert expected.count.tolist() != [0, 0]
    head.trims_on_cpu = trims
    torch.testing.assert_close(stage.predict(head, (), training_case()[0], sizes), expected)


@pytest.mark.parametrize("trims", [True, False])
def test_a_batch_without_objects_has_finite_losses_and_gradients(trims):
    head = real_head()
    head.trims_on_cpu = trims
    targets = make_targets([[], []], [[], []], masks=True)
    losses = make_stage().loss(head, (), training_case()[0], targets, image_size=(64, 64))
    assert losses["loss_bbox"].item() == 0
    assert losses["loss_mask"].item() == 0
    assert losses["loss_cls"].item() > 0
    sum(v for k, v in losses.items() if "loss" in k).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_no_proposals_and_no_objects_cost_nothing():
    proposals = make_proposals([[[0.0] * 4] * 3], [0])
    for trims in (True, False):
        head = real_head(batch_norm())
        head.trims_on_cpu = trims
        losses = make_stage().loss(head, (), proposals, make_targets([[]], [[]], masks=True), image_size=(64, 64))
        assert all(v.item() == 0 for v in losses.values())


def test_mask_targets_are_cropped_from_the_object_of_each_positive():
    head, stage = real_head(), make_stage(num=4)
    logits = torch.full((1, 2, C, 4, 4), -9.0)
    logits[0, 0, 1, :, :2] = math.log(3.0)  # right half of what is left of the box: probability 3/4
    logits[0, 0, 1, :, 2:] = -math.log(3.0)
    head.masks = lambda features, boxes, valid: logits
    losses = stage.loss(
        head, (), make_proposals([[[50.0, 50.0, 60.0, 60.0]]], [1]), make_targets([[OBJECT]], [[1]], True),
        image_size=(64, 64),
    )  # fmt: skip
    assert losses["loss_mask"].item() == pytest.approx(math.log(4 / 3), rel=1e-6)


def test_a_mask_head_without_masks_in_the_targets_is_an_error_that_names_the_fix():
    with pytest.raises(ValueError, match="with_mask=True"):
        make_stage().loss(
            real_head(), (), training_case()[0], training_case()[1]._replace(masks=None), image_size=(64, 64)
        )


def test_a_mask_size_other_than_the_heads_is_an_error_that_names_both():
    with pytest.raises(ValueError, match="mask_size is 28, but the mask head makes masks of side 4"):
        make_stage(mask_criterion=MaskCriterion(MaskLoss())).loss(
            real_head(), (), *training_case(), image_size=(64, 64)
        )


@pytest.mark.parametrize(("part", "message"), [("sampler", "without train_cfg"), ("mask_criterion", "loss_mask")])
def test_a_stage_built_for_prediction_alone_says_so_when_it_is_trained(part, message):
    with pytest.raises(ValueError, match=message):
        make_stage(**{part: None}).loss(real_head(), (), *training_case(), image_size=(64, 64))


def test_random_order_follows_the_generator():
    stage = make_stage(sampler=RandomSampler(4, 0.5))
    asked = []
    for seed in (5, 5, 6):
        head = fixed_head()
        generator = torch.Generator().manual_seed(seed)
        stage.loss(head, (), *training_case(), image_size=(64, 64), generator=generator)
        asked.append(head.asked[0])
    assert torch.equal(asked[0], asked[1])
    assert not torch.equal(asked[0], asked[2])
