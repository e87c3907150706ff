"""fastdet._C: the kernels on NumPy and DLPack arrays equal the torch ops."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from fastdet import _C, ops
from tests.ops.samples import SCALES, pyramid, random_boxes, random_groups, random_rois, tied_scores

BOXES, SCORES, GROUPS = random_boxes(120, 0), tied_scores(120, 0), random_groups(120, 0)


def test_nms_equals_the_torch_op() -> None:
    assert _C.nms(BOXES.numpy(), SCORES.numpy(), 0.4).tolist() == ops.nms(BOXES, SCORES, 0.4).tolist()
    expected = ops.batched_nms(BOXES, SCORES, GROUPS, 0.4)
    assert _C.batched_nms(BOXES.numpy(), SCORES.numpy(), GROUPS.numpy(), 0.4).tolist() == expected.tolist()


def test_nms_padded_equals_the_torch_op() -> None:
    batch = BOXES.view(2, 60, 4), SCORES.view(2, 60), GROUPS.view(2, 60), SCORES.view(2, 60) > 0.3
    boxes, scores, groups, valid = (tensor.numpy() for tensor in batch)
    for with_groups, with_valid in ((None, None), (groups, None), (None, valid), (groups, valid)):
        expected = ops.nms_padded(
            batch[0],
            batch[1],
            None if with_groups is None else batch[2],
            0.4,
            9,
            None if with_valid is None else batch[3],
        )
        index, count = _C.nms_padded(boxes, scores, with_groups, 0.4, 9, with_valid)
        assert index.tolist() == expected[0].tolist()
        assert count.tolist() == expected[1].tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_roi_align_equals_the_torch_op(dtype: torch.dtype, channels_last: bool) -> None:
    features, rois = pyramid(19, 1, dtype, channels_last), random_rois(14, 2, 2)
    if dtype == torch.float64:
        rois = rois.double()
    levels = torch.arange(14) % 3
    for chosen in (None, levels):
        expected = ops.roi_align(features, rois, (3, 4), SCALES, 2, True, 40.0, chosen)
        arrays = [feature.numpy() for feature in features]
        given = None if chosen is None else chosen.numpy()
        actual = _C.roi_align(arrays, rois.numpy(), (3, 4), SCALES, 2, True, 40.0, given)
        assert actual.dtype == arrays[0].dtype
        assert np.array_equal(actual, expected.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_maximum_poolings_equal_the_torch_ops(dtype: torch.dtype, channels_last: bool) -> None:
    features, rois = pyramid(19, 1, dtype, channels_last), random_rois(14, 2, 2)
    if dtype == torch.float64:
        rois = rois.double()
    levels = torch.arange(14) % 3
    arrays = [feature.numpy() for feature in features]
    for rounded in (True, False):
        expected = ops.roi_pool(features, rois, (3, 4), SCALES, rounded=rounded, levels=levels)
        actual = _C.roi_pool(arrays, rois.numpy(), (3, 4), SCALES, rounded=rounded, levels=levels.numpy())
        assert actual.dtype == arrays[0].dtype
        assert np.array_equal(actual, expected.numpy())
    samples = ops.roi_align(features, rois, (3, 4), SCALES, 2, pool_mode="max")
    actual = _C.roi_align(arrays, rois.numpy(), (3, 4), SCALES, 2, pool_mode="max")
    assert np.allclose(actual, samples.numpy(), rtol=1e-3 if dtype == torch.float16 else 1e-6)


def test_grid_anchors_equal_the_torch_op() -> None:
    base = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    sizes, strides = [(3, 5), (2, 2)], [(8.0, 8.0), (16.0, 17.0)]
    assert np.array_equal(_C.grid_anchors(base.numpy(), sizes, strides), ops.grid_anchors(base, sizes, strides).numpy())


def test_crop_masks_equal_the_torch_op() -> None:
    bits = (torch.rand(200, generator=torch.Generator().manual_seed(4)) > 0.5).to(torch.uint8)
    windows = torch.tensor([[2, 3, 10, 10], [0, 0, 20, 5]], dtype=torch.int32)
    arguments = bits, torch.tensor([0, 100]), windows, torch.tensor([0, 1, -1]), BOXES[:3] + 50
    actual = _C.crop_masks(*(tensor.numpy() for tensor in arguments), 14, (40, 40))
    assert np.array_equal(actual, ops.crop_masks(*arguments, 14, (40, 40)).numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_deform_conv2d_equals_the_torch_op(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    coordinate = torch.float64 if dtype == torch.float64 else torch.float32
    x, weight, bias = (
        torch.randn(shape, generator=generator).to(dtype) for shape in ((2, 4, 6, 5), (6, 2, 3, 3), (6,))
    )
    offset, mask = (torch.randn(2, size, 6, 5, generator=generator).to(coordinate) for size in (36, 18))
    expected = ops.deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    arrays = [tensor.numpy() for tensor in (x, offset, weight, bias)]
    actual = _C.deform_conv2d(*arrays, padding=(1, 1), mask=mask.numpy())
    assert actual.dtype == arrays[0].dtype
    assert np.array_equal(actual, expected.numpy())


def test_assign_max_iou_equals_the_torch_op() -> None:
    objects, valid = BOXES[:8].view(2, 4, 4), SCORES[:8].view(2, 4) > 0.2
    expected = ops.assign_max_iou(BOXES, objects, valid, positive=0.5, negative=(0.0, 0.4))
    actual = _C.assign_max_iou(BOXES.numpy(), objects.numpy(), valid.numpy(), positive=0.5, negative=(0.0, 0.4))
    assert np.array_equal(actual[0], expected[0].numpy())
    assert np.array_equal(actual[1], expected[1].numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_ms_deform_attn_equals_the_torch_op(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(6)
    coordinate = torch.float64 if dtype == torch.float64 else torch.float32
    value = torch.randn(2, 30, 2, 19, generator=generator).to(dtype)
    locations = torch.rand(2, 5, 2, 2, 3, 2, generator=generator).to(coordinate)
    weights = torch.rand(2, 5, 2, 2, 3, generator=generator).to(coordinate)
    shapes = [(6, 4), (3, 2)]
    expected = ops.ms_deform_attn(value, shapes, locations, weights)
    actual = _C.ms_deform_attn(value.numpy(), shapes, locations.numpy(), weights.numpy())
    assert actual.dtype == value.numpy().dtype
    assert np.array_equal(actual, expected.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_sigmoid_focal_loss_equals_the_torch_op(dtype: torch.dtype) -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(6)).to(dtype)
    labels = torch.tensor([0, 4, 5, -1, 2, 1, 3])
    for weight in (None, SCORES[:7], SCORES[:35].view(7, 5)):
        for alpha in (0.3, None):
            expected = ops.sigmoid_focal_loss(logits, labels, weight=weight, alpha=alpha, gamma=1.5)
            given = None if weight is None else weight.numpy()
            actual = _C.sigmoid_focal_loss(logits.numpy(), labels.numpy(), weight=given, alpha=alpha, gamma=1.5)
            assert np.array_equal(actual, expected.numpy())
            assert actual.dtype == expected.numpy().dtype


def test_overlaps_equal_the_torch_ops() -> None:
    first, second = BOXES[:40], BOXES[40:80]
    for kind in ("iou", "giou", "iof"):
        expected = ops.box_iou(first, second[:9], kind=kind)
        assert np.array_equal(_C.box_iou(first.numpy(), second[:9].numpy(), kind=kind), expected.numpy())
    for pair_kind in ("iou", "giou", "diou", "ciou"):
        expected = ops.paired_box_iou(first, second, kind=pair_kind)
        assert np.array_equal(_C.paired_box_iou(first.numpy(), second.numpy(), kind=pair_kind), expected.numpy())
    with pytest.raises(ValueError, match="`kind` must be 'iou', 'giou' or 'iof', got 'ciou'"):
        _C.box_iou(first.numpy(), second.numpy(), kind="ciou")


def test_soft_nms_and_pasted_masks_equal_the_torch_ops() -> None:
    for groups in (None, GROUPS):
        expected = ops.soft_nms(BOXES, SCORES, 0.3, method="gaussian", groups=groups)
        given = None if groups is None else groups.numpy()
        index, scores = _C.soft_nms(BOXES.numpy(), SCORES.numpy(), 0.3, method="gaussian", groups=given)
        assert index.tolist() == expected[0].tolist()
        assert scores.tolist() == expected[1].tolist()
    batch = BOXES.view(2, 60, 4), SCORES.view(2, 60), GROUPS.view(2, 60)
    valid = batch[1] > 0.3
    expected = ops.soft_nms_padded(*batch, 0.4, 9, valid, method="naive")
    found = _C.soft_nms_padded(*(tensor.numpy() for tensor in batch), 0.4, 9, valid.numpy(), method="naive")
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(found, expected, strict=True))
    masks = torch.rand(5, 7, 7, generator=torch.Generator().manual_seed(7))
    pasted = _C.paste_masks(masks.numpy(), BOXES[:5].numpy() + 60, (50, 70))
    assert np.array_equal(pasted, ops.paste_masks(masks, BOXES[:5] + 60, (50, 70)).numpy())


def test_nms_match_equals_the_torch_op() -> None:
    scores = torch.where(SCORES > 0.9, torch.nan, SCORES)
    assert _C.nms_match(BOXES.numpy(), scores.numpy(), 0.4).tolist() == ops.nms_match(BOXES, scores, 0.4).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_dense_postprocess_equals_the_torch_op(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(8)
    sizes, strides = [(3, 5), (2, 2)], [(8.0, 8.0), (16.0, 16.0)]
    logits = torch.randn(2, 38, 3, generator=generator).to(dtype)
    quality = torch.randn(2, 38, generator=generator).to(dtype)
    image_sizes = torch.tensor([[24.0, 40.0], [20.0, 36.0]])
    options: dict[str, Any] = {"iou_threshold": 0.4, "max_output": 20, "limit": 30, "score_threshold": 0.2}
    for code, width in (
        (ops.delta_code(stds=(0.1, 0.1, 0.2, 0.2)), 4),
        (ops.distance_code(2.0), 4),
        (ops.distribution_code(), 20),
        (ops.cell_code(), 4),
    ):
        codes = torch.randn(2, 38, width, generator=generator).to(dtype)
        for base in (BOXES[:4].view(2, 2, 4), BOXES[:38], BOXES[:76].view(2, 38, 4)):
            steps = strides if base.shape[:2] == (2, 2) else []
            expected = ops.dense_postprocess(
                logits, codes, base, image_sizes, ops.Levels(sizes, [2, 2], steps), code, quality=quality, **options
            )
            arrays = [tensor.numpy() for tensor in (logits, codes, base, image_sizes)]
            extra = {"code": code.kind, "code_numbers": code.numbers, "clips": code.clips, "quality": quality.numpy()}
            found = _C.dense_postprocess(*arrays, sizes, [2, 2], steps, **extra, **options)
            assert all(np.array_equal(a, b.numpy(), equal_nan=True) for a, b in zip(found, expected, strict=True))
    with pytest.raises(ValueError, match="`rivals` must be one of 'class', 'level', 'all', got 'none'"):
        _C.dense_postprocess(*arrays, sizes, [2, 2], rivals="none", **options)


def test_rpn_proposals_equal_the_torch_op() -> None:
    generator = torch.Generator().manual_seed(9)
    logits, deltas = torch.randn(2, 38, generator=generator), torch.randn(2, 38, 4, generator=generator)
    base, image_sizes = BOXES[:4].view(2, 2, 4), torch.tensor([[24.0, 40.0], [20.0, 36.0]])
    places: tuple[Any, ...] = [(3, 5), (2, 2)], [(8.0, 8.0), (16.0, 16.0)]
    options: dict[str, Any] = {"iou_threshold": 0.7, "max_output": 20, "limit": 12, "min_size": 0.0}
    expected = ops.rpn_proposals(logits, deltas, base, image_sizes, *places, **options)
    arrays = [tensor.numpy() for tensor in (logits, deltas, base, image_sizes)]
    found = _C.rpn_proposals(*arrays, *places, **options)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(found, expected, strict=True))


def test_every_op_is_there() -> None:
    """Codes and levels describe arguments; nms_levels and top_indices are made of other ops."""
    described = {"BoxCode", "DetectedBoxes", "Levels", "Rivals", "nms_levels", "top_indices"}
    described |= {name for name in ops.__all__ if name.endswith("_code")}
    assert set(ops.__all__) - described <= set(dir(_C))


def test_fitted_images_equal_the_torch_op() -> None:
    pixels, pictures = torch.arange(60, dtype=torch.uint8), torch.tensor([[0, 2, 4], [24, 4, 3]])
    sizes = torch.tensor([[3, 5], [2, 2]])
    for first in (False, True):
        found = _C.fit_images(pixels.numpy(), pictures.numpy(), sizes.numpy(), (4, 5), channels_first=first)
        assert np.array_equal(found, ops.fit_images(pixels, pictures, sizes, (4, 5), channels_first=first).numpy())
    with pytest.raises(ValueError, match="picture 1 does not lie within the bytes"):
        _C.fit_images(pixels.numpy()[:59], pictures.numpy(), sizes.numpy(), (4, 5))


def test_dlpack_arrays_and_lists_are_taken_as_they_are() -> None:
    expected = _C.nms(BOXES.numpy(), SCORES.numpy(), 0.4).tolist()
    assert _C.nms(BOXES, SCORES, 0.4).tolist() == expected  # torch tensors speak DLPack
    assert _C.nms(BOXES.tolist(), SCORES.tolist(), 0.4).tolist() == expected
    strided = np.concatenate([BOXES.numpy(), SCORES.numpy()[:, None]], axis=1)
    assert _C.nms(strided[:, :4], strided[:, 4], 0.4).tolist() == expected


def test_empty_arrays() -> None:
    assert _C.nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).shape == (0,)
    features = [np.zeros((1, 2, 4, 4), np.float32)]
    assert _C.roi_align(features, np.zeros((0, 5), np.float32), (2, 2), [1.0]).shape == (0, 2, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _C.nms(np.zeros((3, 5)), np.zeros(3), 0.5), r"`boxes` must have shape \[\*, 4\], got \[3, 5\]"),
        (lambda: _C.nms(np.zeros((3, 4), np.int64), np.zeros(3), 0.5), "`boxes` must have dtype float32, got int64"),
        (lambda: _C.nms(np.zeros((3, 4)), np.zeros(3), 2.0), r"`iou_threshold` must lie in \[0, 1\], got 2"),
        (
            lambda: _C.roi_align([np.zeros((1, 1, 4, 4))], np.array([[1.0, 0, 0, 1, 1]]), (2, 2), [1.0]),
            "`rois` row 0 has a batch index or level",
        ),
        (lambda: _C.grid_anchors(np.zeros((2, 1, 4)), [(1, 1)], [(8, 8)]), "one pair for each of the 2 levels"),
    ],
)
def test_errors_are_value_errors_that_name_the_argument(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_module_needs_no_torch() -> None:
    code = (
        "import fastdet._C as c, sys; c.nms([[0, 0, 1, 1.0]], [1.0], 0.5); print(c.build_info()); "
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cpu_kernels" in result.stdout
