"""Inputs that other packages' ops are known to get wrong, one test a bug.

Where the peer is torchvision, the test shows the bug as well, so that its mending is noticed.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fastdet import ops

STRIDE = 4


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())


def test_rois_of_fp16_features_keep_their_place(device: str) -> None:
    # torchvision wants RoIs in the features' type: beyond 1024 pixels fp16 steps by a whole pixel, 0.25 cells of P2.
    peer = pytest.importorskip("torchvision.ops")
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 8, 8, 336, generator=generator).half()
    left = 1025 + 200 * torch.rand(40, 1, generator=generator)
    rois = torch.cat(
        [torch.zeros(40, 1), left, torch.full((40, 1), 3.3), left + 37.7, torch.full((40, 1), 27.7)], dim=1
    )
    expected = ops.roi_align([features.double()], rois.double(), 7, [1 / STRIDE], 2)
    actual = ops.roi_align([features.to(device)], rois.to(device), 7, [1 / STRIDE], 2).cpu()
    assert relative_error(actual, expected) < 1e-3
    assert relative_error(peer.roi_align(features, rois.half(), 7, 1 / STRIDE, 2, True), expected) > 0.05


def test_fp16_deformable_convolution_samples_where_it_should(device: str) -> None:
    # torchvision adds offset and position in fp16: 200.3 becomes 200.25.
    peer = pytest.importorskip("torchvision.ops")
    generator = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(shape, generator=generator).half() for shape in ((1, 4, 6, 1100), (4, 4, 3, 3)))
    offset = torch.randn(1, 18, 6, 1100, generator=generator)
    wide = [tensor.double() for tensor in (x, offset, weight)]
    expected = ops.deform_conv2d(*wide, padding=1)
    actual = ops.deform_conv2d(x.to(device), offset.to(device), weight.to(device), padding=1).cpu()
    assert relative_error(actual, expected) < 1e-3
    assert relative_error(peer.deform_conv2d(x, offset.half(), weight, padding=1), expected) > 0.01


def test_classes_stay_apart_at_negative_coordinates(device: str) -> None:
    # Shifting each class by the largest coordinate, -1, moves class 1 onto class 0's neighbours or not at all.
    boxes = torch.tensor([[-10.0, -10, -1, -1], [-10, -10, -1, -1]], device=device)
    scores, classes = torch.tensor([0.9, 0.8], device=device), torch.tensor([0, 1], device=device)
    assert ops.batched_nms(boxes, scores, classes, 0.5).tolist() == [0, 1]
    peer = pytest.importorskip("torchvision.ops")
    assert peer.boxes._batched_nms_coordinate_trick(boxes, scores, classes, 0.5).tolist() == [0]


def test_high_class_numbers_cost_no_bits(device: str) -> None:
    # Class 79 of a 1333 pixel image is shifted by 105 thousand pixels, where float steps by 1/128 of a pixel: rounding
    # then decides about small boxes near the threshold.
    generator = torch.Generator().manual_seed(2)
    corner = 1300 * torch.rand(500, 1, 2, generator=generator)
    first = torch.cat([corner, corner + 8 + 8 * torch.rand(500, 1, 2, generator=generator)], dim=2)
    second = first.clone()
    width = first[..., 2] - first[..., 0]
    second[..., 0] = first[..., 0] + width * (0.5 + 1e-4 * (torch.rand(500, 1, generator=generator) - 0.5))
    boxes, scores = torch.cat([first, second], dim=1), torch.tensor([0.9, 0.8])
    anchor = torch.tensor([[0.0, 0, 1333, 800]])
    alone = [len(ops.nms(pair, scores, 0.5)) for pair in boxes]
    together = []
    for pair in boxes:
        everything = torch.cat([anchor, pair]).to(device)
        classes = torch.tensor([0, 79, 79], device=device)
        together.append(
            len(ops.batched_nms(everything, torch.tensor([1.0, 0.9, 0.8], device=device), classes, 0.5)) - 1
        )
    assert together == alone
    assert {1, 2} == set(alone)


def test_queries_of_a_block_read_their_own_image(device: str) -> None:
    # DCNv4's attention takes the image of a block's first query for all of its queries: with 3 images of 97 queries and
    # blocks of any size above 1, some read the image before.
    locations = torch.full((3, 97, 2, 1, 4, 2), 0.5, device=device)
    weights = torch.full((3, 97, 2, 1, 4), 0.25, device=device)
    value = torch.tensor([0.0, 1, 0], device=device).view(3, 1, 1, 1).expand(3, 25, 2, 8).contiguous()
    output = ops.ms_deform_attn(value, [(5, 5)], locations, weights)
    assert output.flatten(1).amin(dim=1).tolist() == output.flatten(1).amax(dim=1).tolist() == [0.0, 1.0, 0.0]


def test_any_batch_fits_attention_and_convolution(device: str) -> None:
    # MMCV asserts that the batch is a multiple of its im2col_step, 64, once it is larger; Detectron2 fails there.
    x = torch.randn(67, 2, 3, 3, generator=torch.Generator().manual_seed(3)).to(device)
    offset, weight = torch.zeros(67, 2, 3, 3, device=device), torch.ones(1, 2, 1, 1, device=device)
    torch.testing.assert_close(ops.deform_conv2d(x, offset, weight), x.sum(1, keepdim=True))
    value = x.flatten(2).transpose(1, 2).unsqueeze(2).contiguous()
    centres = torch.full((67, 1, 1, 1, 1, 2), 0.5, device=device)
    attended = ops.ms_deform_attn(value, [(3, 3)], centres, torch.ones(67, 1, 1, 1, 1, device=device))
    torch.testing.assert_close(attended[:, 0], x[:, :, 1, 1])


def test_channels_last_in_is_channels_last_out(device: str) -> None:
    # torchvision copies channels-last features to the default layout and gives the result in that.
    peer = pytest.importorskip("torchvision.ops")
    features = torch.randn(1, 4, 9, 7, device=device).contiguous(memory_format=torch.channels_last)
    rois = torch.tensor([[0, 1.0, 1, 6, 6]], device=device)
    assert ops.roi_align([features], rois, 3, [1.0]).is_contiguous(memory_format=torch.channels_last)
    assert not peer.roi_align(features, rois, 3).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_types_run_on_the_cpu(dtype: torch.dtype) -> None:
    # torchvision's CPU ops refuse bfloat16, and its NMS float16 as well; MMCV has no CPU attention at all.
    peer = pytest.importorskip("torchvision.ops")
    boxes, scores = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]], dtype=dtype), torch.tensor([0.5, 0.25], dtype=dtype)
    assert ops.nms(boxes, scores, 0.5).tolist() == [0]
    with pytest.raises(RuntimeError, match="not implemented"):
        peer.nms(boxes, scores, 0.5)


@pytest.mark.usefixtures("deterministic")
def test_a_deterministic_gradient_of_roi_align_costs_no_extra_memory(device: str) -> None:
    # torchvision leaves its kernels for a formulation that needs gigabytes for a map of this size.
    feature = torch.ones(1, 2, 400, 400, device=device, requires_grad=True)
    rois = torch.tensor([[0, 0.0, 0, 399, 399]], device=device).expand(64, 5)
    gradients = []
    for _ in range(2):
        pooled = ops.roi_align([feature], rois, 7, [1.0])
        gradients.append(torch.autograd.grad(pooled.sum(), feature)[0])
    assert torch.equal(*gradients)
    assert float(gradients[0].sum()) == pytest.approx(64 * 49 * 2, rel=1e-4)
