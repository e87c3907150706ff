"""The two-stage detector as a whole, with a thin ResNet-18."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fastdet.models import set_sampling_order
from fastdet.models.assigners import MaxIoUAssigner
from fastdet.models.backbones import ResNet
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.criteria import AnchorCriterion
from fastdet.models.criteria.roi import MaskCriterion, RoICriterion
from fastdet.models.detectors.two_stage import TwoStageDetector
from fastdet.models.extractors import SingleRoIExtractor
from fastdet.models.heads.bbox import ConvFCBBoxHead
from fastdet.models.heads.fcn_mask import FCNMaskHead
from fastdet.models.heads.rpn import RPNHead
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.layers.norm import batch_norm
from fastdet.models.losses import L1Loss, MaskLoss, SigmoidLoss, SoftmaxLoss
from fastdet.models.necks import FPN
from fastdet.models.postprocess.dense import ProposalPostprocess
from fastdet.models.postprocess.roi import RoIPostprocess
from fastdet.models.preprocess import Preprocess
from fastdet.models.priors import AnchorGenerator
from fastdet.models.samplers import RandomSampler
from fastdet.models.stages.dense import DenseStage
from fastdet.models.stages.roi import RoIStage
from fastdet.structures import Batch, ImageMeta, MaskBuffer, Targets

STRIDES = (4, 8, 16, 32)


def make_detector(masks=True):
    torch.manual_seed(0)
    rpn = DenseStage(
        AnchorGenerator((*STRIDES, 64), (0.5, 1.0, 2.0), scales=(4,)),
        DeltaXYWHBBoxCoder(),
        ProposalPostprocess(20, 0.7, nms_pre=100),
        assigner=MaxIoUAssigner(0.7, 0.3, min_pos_iou=0.3),
        sampler=RandomSampler(32, 0.5, add_gt_as_proposals=False),
        criterion=AnchorCriterion(SigmoidLoss(), L1Loss(), class_agnostic=True, prefix="rpn_"),
        train_postprocess=ProposalPostprocess(40, 0.7, nms_pre=200),
    )
    head = StandardRoIHead(
        SingleRoIExtractor(STRIDES),
        ConvFCBBoxHead(3, 8, num_shared_convs=1, num_shared_fcs=1, conv_out_channels=8, norm=batch_norm()),
        mask_roi_extractor=SingleRoIExtractor(STRIDES, output_size=14) if masks else None,
        mask_head=FCNMaskHead(3, 8, num_convs=1, conv_out_channels=8) if masks else None,
    )
    roi = RoIStage(
        DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2)),
        RoIPostprocess(score_thr=0.05, max_per_img=10),
        assigner=MaxIoUAssigner(0.5, 0.5, min_pos_iou=0.5),
        sampler=RandomSampler(16, 0.25),
        criterion=RoICriterion(SoftmaxLoss(), L1Loss()),
        mask_criterion=MaskCriterion(MaskLoss()) if masks else None,
    )
    return TwoStageDetector(
        Preprocess((100.0, 110.0, 120.0), (60.0, 60.0, 60.0), to_rgb=True, pad_divisor=32),
        ResNet(18, base_channels=8, norm_eval=False),
        RPNHead(8, 3, feat_channels=8),
        rpn,
        head,
        roi,
        neck=FPN((8, 16, 32, 64), 8, 5),
    )


def make_batch():
    generator = torch.Generator().manual_seed(4)
    sizes = ((64, 96), (60, 80))
    boxes, labels = torch.zeros(2, 8, 4), torch.zeros(2, 8, dtype=torch.int64)
    boxes[0, 0], boxes[0, 1], boxes[1, 0] = (
        torch.tensor(b) for b in ([4.0, 6.0, 30.0, 36.0], [50.0, 20.0, 90.0, 60.0], [10.0, 10.0, 40.0, 50.0])
    )
    labels[0, 1] = 2
    windows = torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1).to(torch.int32).view(-1, 4)
    areas = (windows[:, 2] * windows[:, 3]).long()
    masks = MaskBuffer(torch.ones(int(areas.sum()), dtype=torch.uint8), areas.cumsum(0) - areas, windows)
    ignored = torch.zeros(2, 8, 4), torch.zeros(2, dtype=torch.int64)
    return Batch(
        torch.randint(0, 256, (2, 3, 64, 96), generator=generator, dtype=torch.uint8),
        torch.tensor(sizes),
        Targets(boxes, labels, torch.tensor([2, 1]), *ignored, masks=masks),
        tuple(ImageMeta(i, f"{i}.jpg", size, size, (1.0, 1.0)) for i, size in enumerate(sizes)),
    )


def test_losses_have_the_known_names_and_reach_every_parameter():
    detector = make_detector().train()
    losses = detector.loss(make_batch())
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox", "loss_mask"}
    assert all(value.shape == () and value.isfinite() for value in losses.values())
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert [name for name, p in detector.named_parameters() if p.grad is None] == []


def test_without_a_mask_head_there_is_no_mask_loss_and_no_mask():
    detector = make_detector(masks=False)
    assert "loss_mask" not in detector.train().loss(make_batch())
    assert detector.eval().predict(make_batch()).masks is None


def test_predictions_have_a_fixed_number_of_slots_and_zeros_after_the_count():
    detections = make_detector().eval().predict(make_batch())
    assert detections.boxes.shape == (2, 10, 4)
    assert detections.masks.shape == (2, 10, 28, 28)
    assert (detections.count > 0).all()
    for image, count in enumerate(detections.count):
        assert (detections.scores[image, :count].diff() <= 0).all()
        assert not any(part[image, count:].any() for part in (detections.boxes, detections.scores, detections.masks))
    assert (detections.boxes[1, :, 2] <= 80).all()
    assert (detections.boxes[1, :, 3] <= 60).all()


def test_the_same_generator_gives_the_same_losses():
    first, second = (make_detector().train().loss(make_batch(), torch.Generator().manual_seed(3)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


class Thrice(nn.Module):
    """A backbone that gives three equal versions of each image."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels):
        return tuple(level.repeat(3, 1, 1, 1) for level in self.backbone(pixels))


def test_equal_versions_of_each_image_have_the_losses_of_one():
    plain, branched = make_detector().train(), make_detector().train()
    branched.backbone = Thrice(branched.backbone)
    for detector in (plain, branched):
        set_sampling_order(detector, "index")
    torch.testing.assert_close(branched.loss(make_batch()), plain.loss(make_batch()), rtol=1e-4, atol=1e-5)


def test_sampling_order_can_be_switched_in_both_stages():
    detector = make_detector()
    set_sampling_order(detector, "index")
    assert detector.rpn.sampler.order == detector.roi.sampler.order == "index"


def test_raw_outputs_hold_a_row_for_every_proposal():
    output = make_detector().eval()(make_batch().pixels)
    assert output.proposals.boxes.shape == (2, 20, 4)
    assert output.rois.logits.shape == (2, 20, 4)
    assert output.rois.deltas.shape == (2, 20, 12)


def test_a_batch_without_targets_is_refused():
    with pytest.raises(ValueError, match="needs a batch with targets"):
        make_detector().loss(make_batch()._replace(targets=None))


@pytest.mark.parametrize("masks", [False, True])
def test_training_and_prediction_have_no_shape_that_depends_on_data(masks):
    """Fake tensors have no values: reading one, or a shape that depends on one, is an error."""
    detector, batch = make_detector(masks), make_batch()
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        for module in detector.modules():
            for store in (module._parameters, module._buffers):
                store.update({k: None if v is None else mode.from_tensor(v) for k, v in store.items()})
        batch = batch._replace(
            pixels=mode.from_tensor(batch.pixels),
            sizes=mode.from_tensor(batch.sizes),
            targets=Targets(
                *(mode.from_tensor(t) for t in batch.targets[:5]),
                masks=MaskBuffer(*(mode.from_tensor(t) for t in batch.targets.masks)),
            ),
        )
        losses = detector.train().loss(batch)
        sum(value for name, value in losses.items() if "loss" in name).backward()
        detections = detector.eval().predict(batch)
        assert detections.boxes.shape == (2, 10, 4)
        assert (detections.masks is None) is not masks
