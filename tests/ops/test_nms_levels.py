"""Suppression within consecutive runs of boxes."""

import pytest
import torch

from fastdet.ops import nms_levels, nms_padded


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(2, 30, 2, generator=generator) * 20
    boxes = torch.cat((low, low + torch.rand(2, 30, 2, generator=generator) * 10), dim=-1)
    return boxes, torch.rand(2, 30, generator=generator), torch.rand(2, 30, generator=generator) > 0.2


def test_levels_are_groups() -> None:
    boxes, scores, valid = drawn()
    groups = torch.tensor([0] * 20 + [1] * 10).expand(2, -1).contiguous()
    expected = nms_padded(boxes, scores, groups, 0.4, 12, valid=valid)
    for found, wanted in zip(nms_levels(boxes, scores, valid, (20, 10), 0.4, 12), expected, strict=True):
        assert torch.equal(found, wanted)


def test_lengths_must_cover_the_boxes() -> None:
    with pytest.raises(ValueError, match="add up to 30, the number of boxes, got \\(20, 9\\)"):
        nms_levels(*drawn(), (20, 9), 0.4, 12)


def test_op_is_registered_well() -> None:
    boxes, scores, valid = drawn()
    torch.library.opcheck(torch.ops.fastdet.nms_levels.default, (boxes, scores, valid, [20, 10], 0.4, 12))
