"""The head that scores masks, and what its scores do to detections."""

import torch
from torch import nn

from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.extractors import SingleRoIExtractor
from fastdet.models.heads.bbox import ConvFCBBoxHead
from fastdet.models.heads.fcn_mask import FCNMaskHead
from fastdet.models.heads.mask_iou import MaskIoUHead
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.postprocess.roi import RoIPostprocess
from fastdet.models.stages.roi import RoIStage, filled
from fastdet.structures import Detections

BOXES = torch.tensor([[[0.0, 0.0, 16.0, 16.0], [8.0, 8.0, 32.0, 24.0], [0.0, 0.0, 0.0, 0.0]]])


def make_head():
    torch.manual_seed(0)
    head = StandardRoIHead(
        SingleRoIExtractor([4], output_size=3),
        ConvFCBBoxHead(2, 4, roi_feat_size=3),
        mask_roi_extractor=SingleRoIExtractor([4], output_size=6),
        mask_head=FCNMaskHead(2, 4, num_convs=1, conv_out_channels=4),
        mask_iou_head=MaskIoUHead(2, 4, roi_feat_size=6, num_convs=2, num_fcs=1, conv_out_channels=4),
    )
    nn.init.normal_(head.mask_head.conv_logits.weight)
    return head


def test_keys_and_shape() -> None:
    head = MaskIoUHead(3, 4, roi_feat_size=6, num_convs=2, num_fcs=2, conv_out_channels=8, fc_out_channels=16)
    assert list(head.state_dict())[::2] == [
        f"{n}.weight" for n in ("convs.0", "convs.1", "fcs.0", "fcs.1", "fc_mask_iou")
    ]
    assert head(torch.zeros(5, 4, 6, 6), torch.zeros(5, 12, 12)).shape == (5, 3)


def test_the_score_is_that_of_the_slots_own_class_and_of_its_mask() -> None:
    head, features = make_head(), (torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)),)
    valid, labels = torch.tensor([[True, True, False]]), torch.tensor([[0, 1, 0]])
    logits, ious = head.scored_masks(features, BOXES, valid, labels)
    torch.testing.assert_close(logits, head.masks(features, BOXES, valid))
    pooled = head.mask_roi_extractor(features, torch.cat([torch.zeros(2, 1), BOXES[0, :2]], dim=1))
    for slot in range(2):
        wanted = head.mask_iou_head(pooled[slot, None], logits[0, slot, slot][None])[0, slot]
        torch.testing.assert_close(ious[0, slot], wanted)


def test_a_detections_score_is_the_product_of_both() -> None:
    head, features = make_head(), (torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)),)
    stage = RoIStage(DeltaXYWHBBoxCoder(), RoIPostprocess(score_thr=0.0, iou_threshold=0.5, max_per_img=5))
    proposals = Detections(BOXES, torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.int64), torch.tensor([2]))
    scored = stage.predict(head, features, proposals, torch.tensor([[64, 64]]))
    iou_head, head.mask_iou_head = head.mask_iou_head, None
    plain = stage.predict(head, features, proposals, torch.tensor([[64, 64]]))
    head.mask_iou_head = iou_head
    _, ious = head.scored_masks(features, plain.boxes, filled(plain), plain.labels)
    torch.testing.assert_close(scored.scores, plain.scores * ious)
    torch.testing.assert_close(scored.masks, plain.masks)
