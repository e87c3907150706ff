"""What torchvision's functions and modules give with its own kernels and with fastdet's in their place.

Run by test_torchvision.py in a process of its own. The cases are those of torchvision's test of its ops: sizes, RoIs,
thresholds and tolerances; the peer's own kernels give the expected values.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision import ops as peer

from tests.ops.torchvision_kernels import KERNELS, replaced

ROIS = torch.tensor([[0, 0, 0, 9, 9], [0, 0, 5, 4, 9], [0, 5, 5, 9, 9], [1, 0, 0, 9, 9]], dtype=torch.float64)
TOLERANCE = {torch.float16: 2e-3, torch.float32: 1e-5, torch.float64: 1e-5}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(function: Callable[..., Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """The result and its gradients with respect to the leaves that have one."""
    fresh = [
        leaf.detach().clone(memory_format=torch.preserve_format).requires_grad_(leaf.requires_grad) for leaf in leaves
    ]
    output = function(*fresh)
    slope = normal(*output.shape, seed=1).to(output.dtype)
    wanted = [leaf for leaf in fresh if leaf.requires_grad]
    return [output.detach(), *torch.autograd.grad(output, wanted, slope)]


def agree(function: Callable[..., Tensor], leaves: list[Tensor], tolerance: float) -> None:
    """The peer's own fp16 sums err by more than a test can allow: its float64 result is what is wanted then."""
    half = leaves[0].dtype == torch.float16
    expected = run(function, [leaf.detach().double().requires_grad_() for leaf in leaves] if half else leaves)
    with replaced():
        actual = run(function, leaves)
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == leaves[0].dtype
        scale = max(float(b.abs().max()), 1.0) if half and b.numel() else 1.0
        torch.testing.assert_close(a.to(b.dtype), b, rtol=tolerance, atol=tolerance * scale)


def test_the_kernels_are_really_replaced_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setitem(KERNELS, "nms", lambda *arguments: calls.append(1) or torch.zeros(0, dtype=torch.int64))
    with replaced():
        assert peer.nms(ROIS[:, 1:], ROIS[:, 1], 0.5).numel() == 0
    assert len(calls) == 1
    assert peer.nms(ROIS[:, 1:], ROIS[:, 1], 0.5).numel() > 0
    assert len(calls) == 1


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [-1, 0, 1, 2, 3])
def test_roi_align(dtype: torch.dtype, contiguous: bool, aligned: bool, sampling_ratio: int) -> None:
    features = normal(2, 50, 10, 10).to(dtype)
    if not contiguous:
        features = features.permute(0, 1, 3, 2)
    for scale, output_size in ((1.0, 5), (0.5, (3, 4))):
        agree(
            lambda x, size=output_size, s=scale: peer.roi_align(x, ROIS.to(x.dtype), size, s, sampling_ratio, aligned),
            [features.requires_grad_()],
            TOLERANCE[dtype],
        )


def test_roi_align_takes_a_list_of_boxes_and_no_box_at_all() -> None:
    features = normal(2, 6, 10, 10).requires_grad_()
    boxes = [ROIS[:3, 1:], ROIS[3:, 1:]]
    agree(lambda x: peer.roi_align(x, boxes, 5, 1.0, 2, True), [features], 1e-5)
    agree(lambda x: peer.roi_align(x, ROIS[:0], 5), [features], 1e-5)
    agree(lambda x: peer.RoIAlign(4, 0.5, 2, aligned=True)(x, boxes), [features], 1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("aligned", [True, False])
def test_gradcheck_of_roi_align(seed: int, aligned: bool) -> None:
    features = normal(1, 8, 5, 5, seed=seed).requires_grad_()
    rois = torch.tensor([[0, 0, 0, 4, 4], [0, 0, 2, 3, 4], [0, 2, 2, 4, 4]], dtype=torch.float64)
    with replaced():
        assert torch.autograd.gradcheck(lambda x: peer.roi_align(x, rois, 2, 1.0, -1, aligned), features, atol=1e-5)


def test_multi_scale_roi_align() -> None:
    pool = peer.MultiScaleRoIAlign(["0", "1"], (7, 7), 2)
    features = [normal(1, 4, 64, 64).float().requires_grad_(), normal(1, 4, 32, 32).float().requires_grad_()]
    corner = 150 * torch.rand(30, 2, generator=torch.Generator().manual_seed(2))
    boxes = torch.cat([corner, corner + 100], dim=1)
    agree(lambda a, b: pool({"0": a, "1": b}, [boxes], [(256, 256)]), features, 1e-5)


@pytest.mark.parametrize("iou_threshold", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(10))
def test_nms(iou_threshold: float, seed: int) -> None:
    # The last box is the best one's twin, by a share just above the threshold.
    generator = torch.Generator().manual_seed(seed)
    boxes = 100 * torch.rand(1000, 4, generator=generator)
    boxes[:, 2:] += boxes[:, :2]
    boxes[-1] = boxes[0]
    x0, _, x1, _ = boxes[-1].tolist()
    share = iou_threshold + 1e-5
    boxes[-1, 0] += (x1 - x0) * (1 - share) / share
    scores = torch.rand(1000, generator=generator)
    expected = peer.nms(boxes, scores, iou_threshold)
    with replaced():
        assert torch.equal(peer.nms(boxes, scores, iou_threshold), expected)
        assert torch.equal(
            peer.nms(boxes.half().float(), scores, iou_threshold), peer.nms(boxes.half(), scores, iou_threshold)
        )


def test_nms_refuses_what_torchvision_refuses() -> None:
    for boxes, scores in (
        (torch.rand(4), torch.rand(4)),
        (torch.rand(3, 5), torch.rand(3)),
        (torch.rand(3, 4), torch.rand(3, 2)),
        (torch.rand(3, 4), torch.rand(4)),
    ):
        with pytest.raises((RuntimeError, ValueError)):
            peer.nms(boxes, scores, 0.5)
        with replaced(), pytest.raises((RuntimeError, ValueError), match="must have shape"):
            peer.nms(boxes, scores, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_both_paths_of_batched_nms(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(1000, 4, generator=generator).cumsum(dim=1) * 100
    scores, classes = torch.rand(1000, generator=generator), torch.randint(0, 4, (1000,), generator=generator)
    paths = (peer.boxes._batched_nms_vanilla, peer.boxes._batched_nms_coordinate_trick, peer.batched_nms)
    expected = [path(boxes, scores, classes, 0.5) for path in paths]
    with replaced():
        assert all(torch.equal(path(boxes, scores, classes, 0.5), e) for path, e in zip(paths, expected, strict=True))
        assert peer.batched_nms(boxes[:0], scores[:0], classes[:0], 0.5).shape == (0,)


def convolution(batch: int, dtype: torch.dtype, contiguous: bool) -> tuple[list[Tensor], dict[str, Any]]:
    """Weight groups 2, offset groups 3, kernel (3, 2), stride (2, 1), padding (1, 0), dilation (2, 1)."""
    shapes = ((batch, 6, 5, 4), (batch, 36, 2, 3), (batch, 18, 2, 3), (2, 3, 3, 2), (2,))
    tensors = [normal(*shape, seed=index).to(dtype) for index, shape in enumerate(shapes)]
    if not contiguous:
        tensors[:3] = [t.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2) for t in tensors[:3]]
        tensors[3] = tensors[3].permute(3, 2, 0, 1).contiguous().permute(2, 3, 1, 0)
    options = {"stride": (2, 1), "padding": (1, 0), "dilation": (2, 1)}
    return [tensor.requires_grad_() for tensor in tensors], options


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("batch", [0, 1, 33])
@pytest.mark.parametrize("with_mask", [True, False])
def test_deform_conv2d(dtype: torch.dtype, contiguous: bool, batch: int, with_mask: bool) -> None:
    (x, offset, mask, weight, bias), options = convolution(batch, dtype, contiguous)

    def function(x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, *mask: Tensor) -> Tensor:
        return peer.deform_conv2d(x, offset, weight, bias, **options, mask=mask[0] if mask else None)

    leaves = [x, offset, weight, bias, *([mask] if with_mask else [])]
    agree(function, leaves, {torch.float16: 2e-3, torch.float32: 1e-4, torch.float64: 1e-5}[dtype])


def test_deform_conv2d_without_a_bias_and_as_a_module() -> None:
    (x, offset, mask, weight, _), options = convolution(2, torch.float64, True)
    agree(lambda *t: peer.deform_conv2d(*t[:3], **options, mask=t[3]), [x, offset, weight, mask], 1e-5)
    layer = peer.DeformConv2d(6, 2, (3, 2), **options, groups=2).double()
    agree(lambda *t: layer(*t), [x, offset, mask], 1e-5)


def test_gradcheck_of_deform_conv2d() -> None:
    tensors, options = convolution(2, torch.float64, True)

    def function(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return peer.deform_conv2d(x, offset, weight, bias, **options, mask=mask)

    with replaced():
        assert torch.autograd.gradcheck(function, tensors, fast_mode=True)


def test_deform_conv2d_refuses_wrong_offsets_and_masks() -> None:
    (x, offset, mask, weight, bias), options = convolution(2, torch.float64, True)
    with replaced():
        with pytest.raises((RuntimeError, ValueError), match="`offset` must have"):
            peer.deform_conv2d(x, offset[..., :1], weight, bias, **options, mask=mask)
        with pytest.raises((RuntimeError, ValueError), match="`mask` must have shape"):
            peer.deform_conv2d(x, offset, weight, bias, **options, mask=mask[:, :-1])


def test_types_that_torchvision_lacks() -> None:
    features, rois = normal(2, 5, 10, 10).bfloat16(), ROIS.bfloat16()
    with pytest.raises(RuntimeError):
        peer.roi_align(features, rois, 5)
    expected = peer.roi_align(features.float(), rois.float(), 5)
    (x, offset, mask, weight, bias), options = convolution(2, torch.bfloat16, True)
    with replaced():
        torch.testing.assert_close(peer.roi_align(features, rois, 5), expected.bfloat16())
        low = peer.deform_conv2d(x, offset, weight, bias, **options, mask=mask)
    wide = peer.deform_conv2d(*(t.float() for t in (x, offset, weight, bias)), **options, mask=mask.float())
    torch.testing.assert_close(low, wide.bfloat16(), rtol=1e-2, atol=1e-2)


def test_a_detector_of_torchvision_runs_on_the_kernels() -> None:
    torch.manual_seed(0)
    build = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    model = build(weights=None, weights_backbone=None, box_score_thresh=0.0, num_classes=5).eval()
    image = [torch.rand(3, 200, 260, generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        expected = model(image)[0]
        with replaced():
            actual = model(image)[0]
    assert len(expected["scores"]) > 0
    for name in ("boxes", "scores"):
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-4)
    assert torch.equal(actual["labels"], expected["labels"])
