"""Every op on inputs that are large enough for threads, with odd sizes, in each feature type."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fastdet import ops
from tests.ops.samples import SCALES, pyramid, random_boxes, random_groups, random_rois, tied_scores

FEATURE_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def run_all() -> dict[str, Tensor]:
    """Results, and gradients where there are some, by op, type and layout."""
    results: dict[str, Tensor] = {}
    boxes, scores, groups = random_boxes(6000, 0), tied_scores(6000, 0, 5000), random_groups(6000, 0)
    results["nms"] = ops.nms(boxes, scores, 0.5)
    results["batched_nms"] = ops.batched_nms(boxes, scores, groups, 0.5)
    batch = boxes.view(2, 3000, 4), scores.view(2, 3000), groups.view(2, 3000)
    results["nms_padded"], results["nms_padded count"] = ops.nms_padded(*batch, 0.5, 900)
    objects, valid = random_boxes(80, 1).view(2, 40, 4), torch.ones(2, 40, dtype=torch.bool)
    assigned = ops.assign_max_iou(boxes, objects, valid, positive=0.5, negative=0.4)
    results["assign_max_iou"], results["assign_max_iou overlap"] = assigned
    base = random_boxes(9, 2).view(3, 3, 4)
    results["grid_anchors"] = ops.grid_anchors(base, [(301, 217), (50, 84), (1, 1)], [(4, 4), (8, 8), (16, 16)])
    results["crop_masks"] = crop_masks()
    results["nms of one place"] = ops.nms(boxes / 50, scores, 0.5)
    results["nms_match"] = ops.nms_match(boxes, scores, 0.5)
    results["soft_nms"], results["soft_nms scores"] = ops.soft_nms(boxes[:900], scores[:900], 0.5, groups=groups[:900])
    index, left, _ = ops.soft_nms_padded(*(given[:, :900] for given in batch), 0.5, 300)
    results["soft_nms_padded"], results["soft_nms_padded scores"] = index, left
    results["box_iou"] = ops.box_iou(boxes[:301], boxes[:299], kind="giou")
    results |= with_gradients("paired_box_iou", lambda a, b: ops.paired_box_iou(a, b, kind="ciou"), [boxes, boxes + 5])
    pixels, pictures = torch.arange(90000).mul(37).to(torch.uint8), torch.tensor([[0, 100, 200], [60000, 101, 99]])
    results["fit_images"] = ops.fit_images(pixels, pictures, torch.tensor([[301, 203], [57, 300]]), (301, 300))
    results["paste_masks"] = ops.paste_masks(torch.rand(5, 9, 9, generator=seeded(10)), boxes[:5] + 50, (301, 203))
    results |= {f"dense_postprocess {i}": found for i, found in enumerate(dense_postprocess())}
    for dtype in FEATURE_TYPES:
        for last in (False, True):
            name = f"{dtype}, {'channels last' if last else 'planes'}"
            results |= with_gradients(f"roi_align, {name}", *pooling(dtype, last))
            results |= with_gradients(f"roi_pool, {name}", *maximum_pooling(dtype, last))
            results |= with_gradients(f"deform_conv2d, {name}", *convolution(dtype, last))
        logits, labels = (
            3 * torch.randn(700, 19, generator=seeded(11)),
            torch.randint(0, 20, (700,), generator=seeded(12)),
        )
        results |= with_gradients(
            f"sigmoid_focal_loss, {dtype}", partial(ops.sigmoid_focal_loss, labels=labels), [logits.to(dtype)]
        )
        results |= with_gradients(f"ms_deform_attn, {dtype}", *attention(dtype))
    return results


def with_gradients(name: str, function: Callable[..., Tensor], leaves: list[Tensor]) -> dict[str, Tensor]:
    leaves = [leaf.requires_grad_() for leaf in leaves]
    output = function(*leaves)
    # A slope with few bits: no sum of gradients hangs on the rounding of the result.
    slope = torch.randint(-2, 3, output.shape, generator=torch.Generator().manual_seed(9)).to(output.dtype)
    gradients = torch.autograd.grad(output, leaves, slope)
    return {name: output.detach()} | {f"{name}, gradient {i}": gradient for i, gradient in enumerate(gradients)}


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def dense_postprocess() -> ops.DetectedBoxes:
    sizes = [(41, 37), (21, 19)]
    total = 3 * (41 * 37 + 21 * 19)
    priors = random_boxes(total, 12, 400.0)
    logits, codes = torch.randn(2, total, 5, generator=seeded(13)), 0.2 * torch.randn(2, total, 4, generator=seeded(14))
    return ops.dense_postprocess(
        logits, codes, priors, torch.tensor([[300.0, 400.0]] * 2), ops.Levels(sizes, [3, 3]), ops.delta_code(),
        iou_threshold=0.5, max_output=200, limit=1000, score_threshold=0.6,
    )  # fmt: skip


def crop_masks() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    bits = torch.randint(0, 2, (10 * 900,), generator=generator, dtype=torch.uint8)
    windows = torch.tensor([[5, 9, 30, 30]], dtype=torch.int32).expand(10, 4).contiguous()
    index = torch.randint(-1, 10, (300,), generator=generator)
    return ops.crop_masks(bits, 900 * torch.arange(10), windows, index, random_boxes(300, 4).abs(), 28, (120, 110))


def pooling(dtype: torch.dtype, last: bool) -> tuple[Callable[..., Tensor], list[Tensor]]:
    rois = random_rois(150, 2, 5)

    def function(*features: Tensor) -> Tensor:
        return ops.roi_align(features, rois, 7, SCALES, 2)

    return function, pyramid(37, 6, dtype, last)


def maximum_pooling(dtype: torch.dtype, last: bool) -> tuple[Callable[..., Tensor], list[Tensor]]:
    rois = random_rois(90, 2, 5)

    def function(*features: Tensor) -> Tensor:
        return ops.roi_pool(features, rois, 7, SCALES)

    return function, pyramid(37, 6, dtype, last)


def convolution(dtype: torch.dtype, last: bool) -> tuple[Callable[..., Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, 70, 25, 21, generator=generator).to(dtype)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    offset, mask = torch.randn(2, 36, 25, 21, generator=generator), torch.rand(2, 18, 25, 21, generator=generator)
    weight = (torch.randn(38, 35, 3, 3, generator=generator) / 18).to(dtype)

    def function(x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        return ops.deform_conv2d(x, offset, weight, padding=1, mask=mask)

    return function, [x, offset, weight, mask]


def attention(dtype: torch.dtype) -> tuple[Callable[..., Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(8)
    shapes = ((25, 21), (13, 11))
    value = torch.randn(2, 25 * 21 + 13 * 11, 3, 37, generator=generator).to(dtype)
    locations = 1.2 * torch.rand(2, 300, 3, 2, 3, 2, generator=generator) - 0.1
    weights = torch.rand(2, 300, 3, 2, 3, generator=generator) / 6

    def function(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ops.ms_deform_attn(value, shapes, locations, weights)

    return function, [value, locations, weights]
