"""A cascade's heads: what flows between mask heads, and what a semantic branch adds."""

import pytest
import torch
from torch import nn

from fastdet.models.extractors import SingleRoIExtractor
from fastdet.models.heads.bbox import ConvFCBBoxHead
from fastdet.models.heads.cascade_roi import CascadeRoIHead
from fastdet.models.heads.double_bbox import DoubleConvFCBBoxHead
from fastdet.models.heads.fcn_mask import FCNMaskHead
from fastdet.models.heads.fused_semantic import FusedSemanticHead

BOXES = torch.tensor([[[0.0, 0.0, 16.0, 16.0], [8.0, 8.0, 32.0, 24.0], [0.0, 0.0, 0.0, 0.0]]])
VALID = torch.tensor([[True, True, False]])


def make_head(flow=True, semantic=True):
    torch.manual_seed(0)
    masks = [FCNMaskHead(2, 4, num_convs=1, conv_out_channels=4, with_conv_res=step > 0) for step in range(2)]
    for mask in masks:
        nn.init.normal_(mask.conv_logits.weight)
    branch = {}
    if semantic:
        branch["semantic_head"] = FusedSemanticHead(2, 1, num_convs=1, in_channels=4, conv_out_channels=4)
        branch["semantic_roi_extractor"] = SingleRoIExtractor([8], output_size=6)
    return CascadeRoIHead(
        [SingleRoIExtractor([4, 8], output_size=3) for _ in range(2)],
        [ConvFCBBoxHead(2, 4, roi_feat_size=3, reg_class_agnostic=True) for _ in range(2)],
        mask_roi_extractors=[SingleRoIExtractor([4, 8], output_size=6) for _ in range(2)],
        mask_heads=masks,
        mask_info_flow=flow,
        **branch,
    )


def make_levels():
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(1, 4, 64 // s, 64 // s, generator=generator) for s in (4, 8))


def test_the_second_mask_head_takes_what_the_first_found():
    head = make_head(semantic=False)
    seen = head.prepare(make_levels())
    before = head.masks(seen, BOXES, VALID, step=1)
    nn.init.zeros_(head.mask_head[0].convs[0].conv.weight)
    nn.init.ones_(head.mask_head[0].convs[0].conv.bias)
    assert not torch.allclose(head.masks(seen, BOXES, VALID, step=1)[VALID], before[VALID])
    head.mask_info_flow = False
    pooled = head.mask_roi_extractor[1](seen.levels, torch.cat([torch.zeros(2, 1), BOXES[0, :2]], dim=1))
    torch.testing.assert_close(head.masks(seen, BOXES, VALID, step=1)[0, :2], head.mask_head[1](pooled))


def test_the_semantic_embedding_is_added_to_what_is_pooled():
    head = make_head()
    seen = head.prepare(make_levels())
    assert seen.semantic_logits.shape == (1, 183, 8, 8)
    with_branch = head(seen, BOXES, VALID, step=0).logits
    without = head(seen._replace(semantic=torch.zeros_like(seen.semantic)), BOXES, VALID, step=0).logits
    assert not torch.allclose(with_branch[VALID], without[VALID])
    head.semantic_fusion = ("mask",)
    torch.testing.assert_close(head(seen, BOXES, VALID, step=0).logits, without)


@pytest.mark.parametrize(("flow", "number"), [(True, 1), (False, 2)])
def test_predictions_average_all_masks_or_take_the_last_under_information_flow(flow, number):
    head = make_head(flow)
    assert len(head.predicted_masks(head.prepare(make_levels()), BOXES, VALID)) == number


def test_a_mask_head_without_the_convolution_for_it_takes_nothing_from_another():
    with pytest.raises(ValueError, match="with_conv_res=True"):
        FCNMaskHead(2, 4, num_convs=1, conv_out_channels=4).trunk(torch.ones(1, 4, 3, 3), None, torch.ones(1, 4, 3, 3))


def test_the_double_heads_statistics_come_from_real_rois_alone():
    heads = []
    for rows in (2, 5):
        torch.manual_seed(0)
        head = DoubleConvFCBBoxHead(2, 4, roi_feat_size=3, num_convs=1, num_fcs=1, conv_out_channels=8).train()
        x = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(2))[:rows]
        output = head(x, x + 1, torch.arange(rows) < 2)
        heads.append((output.logits[:2], output.deltas[:2], head.state_dict()))
    torch.testing.assert_close(heads[0], heads[1])
