"""More than 2^31 elements. Memory that is never written costs nothing, so inputs are zeros but for a few at the end."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fastdet import ops

BEYOND = 2**31 + 64


def zeros(count: int, dtype: torch.dtype) -> Tensor:
    """That many zeros of 1 or 2 bytes, for which the system finds memory when they are written."""
    try:
        return torch.from_numpy(np.zeros(count, np.uint8 if dtype == torch.uint8 else np.int16)).view(dtype)
    except MemoryError:
        pytest.skip(f"this machine gives no {count * dtype.itemsize >> 20} MiB of address space at a time")


@pytest.mark.parametrize("channels_last", [False, True])
def test_pooling_of_the_last_image(channels_last: bool) -> None:
    batch, channels, side = 2**15 + 2, 4, 128
    layout = (batch, side, side, channels) if channels_last else (batch, channels, side, side)
    values = zeros(batch * channels * side * side, torch.bfloat16).view(layout)
    assert values.numel() > BEYOND
    values[-1] = 3.0
    feature = values.permute(0, 3, 1, 2) if channels_last else values
    rois = torch.tensor([[batch - 1, 8.0, 8, 40, 40], [batch - 2, 8, 8, 40, 40]])
    for pooled in (ops.roi_align([feature], rois, 2, [1.0]), ops.roi_pool([feature], rois, 2, [1.0])):
        assert pooled[0].unique().tolist() == [3.0]
        assert pooled[1].unique().tolist() == [0.0]


def test_attention_to_the_last_image() -> None:
    batch, cells = 2**15 + 2, 2**12
    value = zeros(batch * cells * 16, torch.bfloat16).view(batch, cells, 2, 8)
    assert value.numel() > BEYOND
    value[-1] = 3.0
    locations, weights = torch.full((batch, 1, 2, 1, 1, 2), 0.5), torch.ones(batch, 1, 2, 1, 1)
    attended = ops.ms_deform_attn(value, [(64, 64)], locations, weights)
    assert attended[-1].unique().tolist() == [3.0]
    assert attended[:-1].count_nonzero() == 0


def test_deformable_convolution_of_the_last_image() -> None:
    batch, side = 2**11 + 1, 512
    values = zeros(batch * side * side * 4, torch.bfloat16).view(batch, side, side, 4)
    assert values.numel() > BEYOND
    values[-1] = 1.0
    weight = torch.ones(1, 4, 1, 1, dtype=torch.bfloat16)
    out = ops.deform_conv2d(values.permute(0, 3, 1, 2), torch.zeros(batch, 2, 2, 2), weight, stride=400)
    assert out[-1].unique().tolist() == [4.0]
    assert out[:-1].count_nonzero() == 0


def test_a_mask_behind_all_others() -> None:
    bits = zeros(BEYOND, torch.uint8)
    bits[-16:] = 1
    offsets, windows = torch.tensor([BEYOND - 16]), torch.tensor([[2, 2, 4, 4]], dtype=torch.int32)
    crop = ops.crop_masks(bits, offsets, windows, torch.tensor([0]), torch.tensor([[2.0, 2, 6, 6]]), 4, (9, 9))
    assert crop.unique().tolist() == [1.0]


@pytest.mark.slow
def test_a_candidate_behind_all_others() -> None:
    """Every logit is read."""
    classes, priors = 2**14, 2**17 + 1
    logits = zeros(priors * classes, torch.bfloat16).view(1, priors, classes)
    assert logits.numel() > 2**31
    logits[0, -1, -1] = 5.0
    codes, boxes = torch.zeros(1, priors, 4), torch.tensor([0.0, 0, 8, 8]).expand(priors, 4)
    lengths = ops.Levels([(1, 2**17), (1, 1)], [1, 1])
    found = ops.dense_postprocess(
        logits, codes, boxes, torch.tensor([[9.0, 9]]), lengths, ops.delta_code(), iou_threshold=0.5, max_output=2,
        score_threshold=0.9,
    )  # fmt: skip
    assert found.count.tolist() == [1]
    assert found.labels[0, 0] == classes - 1


@pytest.mark.slow
def test_bitmaps_of_more_pixels() -> None:
    """Every pixel is written, which takes 2 GiB."""
    count, side = 2**9 + 1, 2**11
    try:
        pasted = ops.paste_masks(torch.ones(count, 2, 2), torch.tensor([[4.0, 4, 8, 8]]).expand(count, 4), (side, side))
    except RuntimeError:
        pytest.skip("this machine has no 2 GiB of memory left")
    assert pasted.numel() > 2**31
    assert pasted[-1].nonzero().tolist() == pasted[0].nonzero().tolist() != []
