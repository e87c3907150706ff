"""Each op as torch sees it: schema, fake kernel, autograd, compile, export, autocast."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.library import opcheck
from torch.utils._pytree import tree_leaves, tree_map

from fastdet import ops
from tests.ops.samples import SCALES, pyramid, random_boxes, random_groups, random_rois, tied_scores

BOXES, SCORES, GROUPS = random_boxes(50, 0), tied_scores(50, 0), random_groups(50, 0)


def roi_arguments(channels_last: bool) -> tuple[Any, ...]:
    features = [feature.requires_grad_() for feature in pyramid(3, 1, channels_last=channels_last)]
    return features, random_rois(5, 2, 2), None, list(SCALES), 2, 3, 0, True, 56.0, channels_last


def mask_arguments() -> tuple[Any, ...]:
    windows = torch.tensor([[1, 1, 4, 4]], dtype=torch.int32)
    index = torch.zeros(1, dtype=torch.int64)
    return torch.ones(16, dtype=torch.uint8), index, windows, index, torch.tensor([[1.0, 1, 5, 5]]), 4, 8, 8


def deform_arguments(channels_last: bool) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(7)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    features = torch.randn(2, 4, 5, 6, generator=generator).contiguous(memory_format=layout).requires_grad_()
    offset, mask = (torch.randn(2, size, 5, 6, generator=generator).requires_grad_() for size in (36, 18))
    weight, bias = torch.randn(6, 2, 3, 3, generator=generator), torch.randn(6, generator=generator)
    return features, offset, mask, weight.requires_grad_(), bias.requires_grad_(), [1, 1], [1, 1], [1, 1], channels_last


def attention_arguments() -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(9)
    value = torch.randn(2, 30, 2, 3, generator=generator).requires_grad_()
    locations = torch.rand(2, 5, 2, 2, 3, 2, generator=generator).requires_grad_()
    return value, [6, 4, 3, 2], locations, torch.rand(2, 5, 2, 2, 3, generator=generator).requires_grad_()


def dense_arguments() -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(9)
    logits, codes = (torch.randn(2, 18, size, generator=generator) for size in (2, 4))
    priors, sizes = BOXES[:6].view(2, 3, 4), torch.tensor([[50.0, 60.0], [40.0, 40.0]])
    numbers = [0.0] * 4 + [1.0] * 4 + [4.0, -1.0]
    levels = ([2, 2, 1, 2], [3, 3], [8.0, 8.0, 16.0, 16.0])
    return logits, codes, logits[..., 0], priors, sizes, *levels, 0, numbers, True, 5, 0.1, 0.0, 0, 0.5, 7, True


CASES: dict[str, tuple[Any, ...]] = {
    "nms": (BOXES, SCORES, 0.5),
    "batched_nms": (BOXES, SCORES, GROUPS, 0.5),
    "nms_padded": (BOXES[None], SCORES[None], GROUPS[None], SCORES[None] > 0.2, 0.5, 7),
    "roi_align": roi_arguments(False),
    "roi_align_backward": (
        torch.randn(5, 3, 2, 3, generator=torch.Generator().manual_seed(3)),
        random_rois(5, 2, 2),
        torch.tensor([0, 1, 2, 1, 0]),
        list(SCALES),
        2,
        [41, 37, 21, 19, 11, 10],
        2,
        False,
        56.0,
        True,
    ),
    "grid_anchors": (BOXES[:6].view(2, 3, 4), [2, 3, 1, 1], [4.0, 4.0, 8.0, 8.0]),
    "crop_masks": mask_arguments(),
    "assign_max_iou": (BOXES, BOXES[None, :4], SCORES[None, :4] > 0.2, None, None, 0.5, 0.0, 0.4, 0.0, True, True),
    "dense_postprocess": dense_arguments(),
    "deform_conv2d": deform_arguments(False),
    "deform_conv2d_backward": (
        torch.randn(2, 6, 5, 6, generator=torch.Generator().manual_seed(8)),
        *(tensor.detach() for tensor in deform_arguments(False)[:4]),
        [1, 1],
        [1, 1],
        [1, 1],
        False,
        True,
    ),
    "ms_deform_attn": attention_arguments(),
    "ms_deform_attn_backward": (
        torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(10)),
        *(given.detach() if isinstance(given, Tensor) else given for given in attention_arguments()),
    ),
}

LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(9))
FOCAL_LABELS = torch.tensor([0, 1, 5, 4, -1, 2])
CASES["sigmoid_focal_loss"] = (LOGITS.clone().requires_grad_(), FOCAL_LABELS, SCORES[:6], 0.25, 0.75, 2.0, False)
PAIR = (BOXES[:9].clone().requires_grad_(), (BOXES[:9] + 7).requires_grad_())
CASES["box_iou"] = (BOXES.view(2, 25, 4), BOXES[None, :7], 1, 1e-6)
CASES["paired_box_iou"] = (*PAIR, 3, 1e-6)
CASES["paired_box_iou_backward"] = (SCORES[:9], PAIR[0].detach(), PAIR[1].detach(), 2, 1e-6)
CASES["soft_nms"] = (BOXES, SCORES, GROUPS, 1, 0.3, 0.5, 0.01)
CASES["soft_nms_padded"] = (BOXES[None], SCORES[None], None, SCORES[None] > 0.2, 2, 0.3, 0.5, 0.01, 7)
CASES["fit_images"] = (
    torch.arange(72, dtype=torch.uint8), torch.tensor([[0, 2, 4], [24, 4, 4]]), torch.tensor([[3, 5], [2, 2]]), 4, 5,
    True,
)  # fmt: skip
CASES["paste_masks"] = (SCORES[:32].view(2, 4, 4), BOXES[:2], 20, 30, 0.5)
CASES["roi_max_pool"] = (*roi_arguments(True)[:6], 0, *roi_arguments(True)[6:])
CASES["roi_max_pool_backward"] = (
    *(CASES["roi_align_backward"][0], torch.ones(5, 3, 2, 3, dtype=torch.int32), *CASES["roi_align_backward"][1:6]),
    *(0, *CASES["roi_align_backward"][6:]),
)
CASES["nms_match"] = (BOXES, 0.3)
CASES["sigmoid_focal_loss_backward"] = (torch.tensor(2.0), LOGITS, FOCAL_LABELS, None, 0.25, 0.75, 1.5)


@pytest.mark.parametrize("name", CASES)
def test_opcheck(name: str) -> None:
    opcheck(getattr(torch.ops.fastdet, name).default, CASES[name])


def test_opcheck_of_channels_last_features() -> None:
    opcheck(torch.ops.fastdet.roi_align.default, roi_arguments(True))


def test_opcheck_of_a_channels_last_deformable_convolution() -> None:
    opcheck(torch.ops.fastdet.deform_conv2d.default, deform_arguments(True))


def detector_like(boxes: Tensor, scores: Tensor, groups: Tensor, base: Tensor, features: list[Tensor]) -> Tensor:
    """All ops in a row, as a detector would chain them."""
    index, _ = ops.nms_padded(boxes[None], scores[None], groups[None], 0.5, 6)
    chosen = boxes[index[0]]
    pooled = ops.roi_align(features, torch.cat([torch.zeros_like(chosen[:, :1]), chosen], dim=1), 3, SCALES)
    offset = 0.1 * features[0][:, :1].expand(-1, 18, -1, -1)
    weight = base.flatten()[:1].expand(2, 4, 3, 3)
    objects = base.view(1, -1, 4)
    valid = torch.ones_like(objects[..., 0], dtype=torch.bool)
    _, overlap = ops.assign_max_iou(boxes, objects, valid, positive=0.5, negative=0.4)
    pooled = pooled + overlap.mean()
    pooled = pooled + ops.deform_conv2d(features[0], offset, weight, padding=1).mean()
    value = features[2].flatten(2).transpose(1, 2).unflatten(2, (2, 2))
    locations = boxes[:20].view(1, 5, 2, 1, 2, 4)[..., :2].expand(2, -1, -1, -1, -1, -1).sigmoid()
    pooled = pooled + ops.ms_deform_attn(value, [(11, 10)], locations, locations[..., 0]).mean()
    anchors = ops.grid_anchors(base, [feature.shape[2:] for feature in features], [(4, 4), (8, 8), (16, 16)])
    focal = ops.sigmoid_focal_loss(features[0].mean((2, 3)), torch.tensor([1, 4]), reduction="sum")
    pooled = pooled + focal + ops.sigmoid_focal_loss(features[1][0, :, :5, 0], torch.tensor([1, 0, 2, 5])).mean()
    moved = chosen + features[0][0, 0, :6, :4]
    for kind in ("iou", "giou", "diou", "ciou"):
        pooled = pooled + ops.paired_box_iou(moved, chosen, kind=kind).mean()
    pooled = pooled + ops.box_iou(chosen, boxes).mean()
    boxes_of_image = torch.cat([torch.zeros_like(chosen[:, :1]), chosen.abs()], dim=1)
    pooled = pooled + ops.roi_pool(features, boxes_of_image, 3, SCALES)
    pooled = pooled + ops.roi_align(features, boxes_of_image, 3, SCALES, pool_mode="max")
    pasted = ops.paste_masks(features[0][0, :, :5, :5].detach(), boxes[:4], (20, 30), 0.2)
    pooled = pooled + pasted.float().mean()
    _, soft, _ = ops.soft_nms_padded(boxes[None], scores[None], groups[None], 0.3, 6, method="gaussian")
    pooled = pooled + soft.mean() + ops.nms_match(boxes, scores, 0.5).float().mean()
    slots = torch.full((6,), -1, dtype=torch.int64)
    found = ops.dense_postprocess(
        pooled.detach()[None, :2, 0, 0, :2],
        pooled.detach()[None, :2, 0, 0, :1].expand(-1, -1, 4),
        boxes[:2],
        boxes.new_full((1, 2), 50.0),
        ops.Levels([(1, 2)], [1]),
        ops.delta_code(),
        iou_threshold=0.5,
        max_output=4,
    )
    pooled = pooled + found.boxes.mean()
    pictures = torch.tensor([[0, 2, 4], [24, 4, 3]])
    fitted = ops.fit_images(torch.arange(60, dtype=torch.uint8), pictures, torch.tensor([[3, 5], [2, 2]]), (4, 5))
    pooled = pooled + fitted.float().mean() / 100
    bits, starts, windows = torch.ones(4, dtype=torch.uint8), slots[:0], torch.zeros(0, 4, dtype=torch.int32)
    crops = ops.crop_masks(bits, starts, windows, slots, chosen, 2, (50, 50))
    # Summed in double: a compiler adds in another order, which in float would hide or feign differences of the ops.
    return pooled.double().square().mean() + anchors.double().mean() + crops.double().sum()


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_as_one_graph_with_gradients(backend: str) -> None:
    base = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(4))
    arguments = (BOXES, SCORES, GROUPS, base)
    eager = [feature.requires_grad_() for feature in pyramid(4, 3, channels_last=True)]
    compiled = [feature.detach().clone().requires_grad_() for feature in eager]
    expected = detector_like(*arguments, eager)
    expected.backward()
    actual = torch.compile(detector_like, fullgraph=True, backend=backend)(*arguments, compiled)
    actual.backward()
    torch.testing.assert_close(actual, expected)
    for a, b in zip(compiled, eager, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_results_of_unknown_size_compile_as_one_graph() -> None:
    def kept_scores(boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
        _, soft = ops.soft_nms(boxes, scores, 0.5, groups=groups)
        kept = scores[ops.nms(boxes, scores, 0.5)].sum() + scores[ops.batched_nms(boxes, scores, groups, 0.5)].sum()
        return kept + soft.sum()

    compiled = torch.compile(kept_scores, fullgraph=True, backend="aot_eager")
    for count in (50, 30):
        arguments = BOXES[:count], SCORES[:count], GROUPS[:count]
        torch.testing.assert_close(compiled(*arguments), kept_scores(*arguments))


@pytest.mark.parametrize("name", CASES)
def test_exports(name: str) -> None:
    class Call(torch.nn.Module):
        def forward(self, *arguments: Any) -> Any:
            return getattr(torch.ops.fastdet, name)(*arguments)

    arguments = tree_map(lambda given: given.detach() if isinstance(given, Tensor) else given, CASES[name])
    exported = torch.export.export(Call(), arguments).module()(*arguments)
    for a, b in zip(tree_leaves(exported), tree_leaves(Call()(*arguments)), strict=True):
        assert torch.equal(a, b)


def test_exports_with_dynamic_counts() -> None:
    class Suppress(torch.nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
            return ops.nms_padded(boxes, scores, None, 0.5, 5)

    count = torch.export.Dim("count", min=2)
    program = torch.export.export(
        Suppress(), (BOXES[None], SCORES[None]), dynamic_shapes={"boxes": {1: count}, "scores": {1: count}}
    )
    smaller = BOXES[None, :20], SCORES[None, :20]
    for a, b in zip(program.module()(*smaller), Suppress()(*smaller), strict=True):
        assert torch.equal(a, b)


def test_fake_tensors_carry_shape_dtype_and_layout() -> None:
    with FakeTensorMode(shape_env=ShapeEnv()):
        features = [torch.empty(2, 8, 20, 20, dtype=torch.bfloat16).to(memory_format=torch.channels_last)]
        pooled = ops.roi_align(features, torch.empty(6, 5), 7, [0.25])
        assert pooled.shape == (6, 8, 7, 7)
        assert pooled.dtype == torch.bfloat16
        assert pooled.is_contiguous(memory_format=torch.channels_last)
        index, count = ops.nms_padded(torch.empty(2, 9, 4), torch.empty(2, 9), None, 0.5, 3)
        assert index.shape == (2, 3)
        assert count.shape == (2,)
        attended = ops.ms_deform_attn(
            torch.empty(2, 30, 2, 4, dtype=torch.float16),
            [(6, 4), (3, 2)],
            torch.empty(2, 5, 2, 2, 3, 2),
            torch.empty(2, 5, 2, 2, 3),
        )
        assert attended.shape == (2, 5, 8)
        assert attended.dtype == torch.float16
        assert ops.nms(torch.empty(9, 4), torch.empty(9), 0.5).dim() == 1
        assert ops.grid_anchors(torch.empty(1, 3, 4), [(4, 5)], [(8, 8)]).shape == (60, 4)


def test_autocast_keeps_features_and_widens_coordinates() -> None:
    features = pyramid(4, 5, torch.bfloat16)
    rois = random_rois(6, 2, 6).to(torch.bfloat16)
    expected = ops.roi_align(features, rois.float(), 3, SCALES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = ops.roi_align(features, rois, 3, SCALES)
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, expected)


LOW = {name: tensor.bfloat16() for name, tensor in {"boxes": BOXES, "scores": SCORES, "few": BOXES[:4]}.items()}
COORDINATES: dict[str, Any] = {
    "nms": lambda t: ops.nms(t["boxes"], t["scores"], 0.5),
    "batched_nms": lambda t: ops.batched_nms(t["boxes"], t["scores"], GROUPS, 0.5),
    "nms_padded": lambda t: ops.nms_padded(t["boxes"][None], t["scores"][None], None, 0.5, 9)[0],
    "nms_match": lambda t: ops.nms_match(t["boxes"], t["scores"], 0.5),
    "soft_nms": lambda t: ops.soft_nms(t["boxes"], t["scores"])[1],
    "soft_nms_padded": lambda t: ops.soft_nms_padded(t["boxes"][None], t["scores"][None], None, 0.5, 9)[1],
    "box_iou": lambda t: ops.box_iou(t["boxes"], t["few"]),
    "paired_box_iou": lambda t: ops.paired_box_iou(t["boxes"], t["boxes"].roll(1, 0), kind="ciou"),
    "assign_max_iou": lambda t: ops.assign_max_iou(
        t["boxes"], t["few"][None], torch.ones(1, 4, dtype=torch.bool), positive=0.5, negative=0.4
    )[1],
    "crop_masks": lambda t: ops.crop_masks(
        torch.ones(16, dtype=torch.uint8), torch.tensor([0]), torch.tensor([[1, 1, 4, 4]], dtype=torch.int32),
        torch.zeros(4, dtype=torch.int64), t["few"], 3, (50, 50),
    ),
    "paste_masks": lambda t: ops.paste_masks(t["scores"][:36].view(4, 3, 3), t["few"], (40, 50)),
    "grid_anchors": lambda t: ops.grid_anchors(t["few"].view(2, 2, 4), [(3, 4), (1, 2)], [(8, 8), (16, 16)]),
    "dense_postprocess": lambda t: ops.dense_postprocess(
        BOXES[None, :4, :2], BOXES[None, 4:8], t["few"], torch.tensor([[50.0, 60.0]]), ops.Levels([(2, 2)], [1]),
        ops.delta_code(), iou_threshold=0.5, max_output=5,
    ).boxes,
    "sigmoid_focal_loss": lambda t: ops.sigmoid_focal_loss(t["few"], torch.tensor([0, 1, 4, -1])),
}  # fmt: skip


@pytest.mark.parametrize("name", COORDINATES)
def test_autocast_leaves_coordinates_and_scores_in_float32(name: str) -> None:
    expected = COORDINATES[name]({key: tensor.float() for key, tensor in LOW.items()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = COORDINATES[name](LOW)
    assert actual.dtype == expected.dtype
    assert torch.equal(actual, expected)


def test_autocast_keeps_features_of_maximum_pooling() -> None:
    features, rois = pyramid(4, 5, torch.bfloat16), random_rois(6, 2, 6).to(torch.bfloat16)
    expected = ops.roi_pool(features, rois.float(), 3, SCALES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ops.roi_pool(features, rois, 3, SCALES), expected)
