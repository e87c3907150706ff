"""How much of an object a predicted mask covers, also of what lies outside the RoI."""

import pytest
import torch

from fastdet.models.criteria import MaskIoUCriterion
from fastdet.models.criteria.mask_iou import inside_share
from fastdet.models.losses import MSELoss
from fastdet.structures import MaskBuffer
from tests.models.helpers import make_targets

# An object of 8 x 8 pixels at (4, 4), and one of 4 x 2 at (0, 0) of which the left half is set.
BITS = torch.cat([torch.ones(64), torch.tensor([1.0, 1, 0, 0] * 2)]).to(torch.uint8)
MASKS = MaskBuffer(BITS, torch.tensor([0, 64]), torch.tensor([[4, 4, 8, 8], [0, 0, 4, 2]], dtype=torch.int32))
TARGETS = make_targets([[[4.0, 4, 12, 12], [0, 0, 4, 2]]], slots=2)._replace(masks=MASKS)
SIZE = (16, 16)


def test_pixels_inside_a_box_are_counted_with_its_corners_cut_to_whole_ones() -> None:
    boxes = torch.tensor(
        [
            [4.9, 4.0, 12.0, 12.0],  # the whole object: 4.9 becomes 4
            [8.0, 0.0, 16.0, 16.0],  # its right half
            [8.0, 8.0, 16.0, 16.0],  # a quarter
            [0.0, 0.0, 4.0, 4.0],  # nothing
            [1.0, 0.0, 1.0, 9.0],  # one column of the second, whose pixels are 2 x 2
            [4.0, 4.0, 12.0, 12.0],  # of no mask
        ]
    )
    index = torch.tensor([0, 0, 0, 0, 1, -1])
    assert inside_share(MASKS, index, boxes, SIZE).tolist() == pytest.approx([1, 0.5, 0.25, 0, 0.5, 0])


def test_the_true_iou_is_with_the_whole_object() -> None:
    """The RoI is the object's right half, and twice as high; the mask is right in the upper half of the RoI."""
    logits = torch.full((1, 2, 4, 4), -1.0)
    logits[0, 0, :2] = 1.0
    rois = torch.tensor([[[8.0, 4.0, 12.0, 12.0], [0.0, 0.0, 0.0, 0.0]]])
    criterion = MaskIoUCriterion(MSELoss(), mask_size=4)
    positive, gt_index = torch.tensor([[True, False]]), torch.zeros(1, 2, dtype=torch.int64)
    found = criterion.true_ious(logits, rois, positive, gt_index, TARGETS, SIZE)
    # 16 cells of the RoI are half of the object: 32 cells in all; 8 of them are found
    assert found[0, 0].item() == pytest.approx(8 / 32)
    losses = criterion(torch.tensor([[0.75, 9.0]]), logits, rois, positive, gt_index, TARGETS, SIZE)
    assert losses["loss_mask_iou"].item() == pytest.approx(0.25)


def test_masks_that_miss_their_object_count_nowhere() -> None:
    logits, rois = torch.full((1, 1, 4, 4), -1.0), torch.tensor([[[8.0, 4.0, 12.0, 12.0]]])
    criterion = MaskIoUCriterion(MSELoss(), mask_size=4)
    ious = torch.ones(1, 1, requires_grad=True)
    one = torch.tensor([[True]]), torch.zeros(1, 1, dtype=torch.int64)
    loss = criterion(ious, logits, rois, *one, TARGETS, SIZE)["loss_mask_iou"]
    loss.backward()
    assert loss.item() == 0
    assert ious.grad is not None
    assert ious.grad.item() == 0
