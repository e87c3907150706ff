"""The bodies in a file, run by onnxruntime, compute what the ops compute, for another batch than was traced."""

from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import ModelProto, helper
from torch import Tensor, nn

from fastdet import ops
from fastdet.deploy import lint
from fastdet.deploy.functions import IR_VERSION, FunctionLibrary
from fastdet.deploy.translate import DOMAIN, to_onnx
from tests.deploy.test_static_ops import boxes_in

Function = Callable[..., Tensor | tuple[Tensor, ...]]


class Caller(nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.function(*inputs)


def exported(
    function: Function, inputs: Sequence[Tensor], names: Sequence[str] | None = None, candidates: int = 1000
) -> ModelProto:
    library = FunctionLibrary(candidates=candidates, rounds=16)
    names = names or [f"x{i}" for i in range(len(inputs))]
    batch = torch.export.Dim("batch", min=1, max=4096)
    dynamic = (tuple({0: batch} for _ in inputs),)
    with torch.no_grad():
        program = torch.export.export(Caller(function), tuple(inputs), dynamic_shapes=dynamic, strict=False)
    model = to_onnx(program, names, library.decompositions())
    model.functions.extend(library.functions())
    model.ir_version = IR_VERSION
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model


def scene(batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes [B, 40, 4], scores with ties, groups, and which are there."""
    generator = torch.Generator().manual_seed(7)
    boxes = boxes_in(60, batch, 40, generator=generator)
    scores = (torch.rand(batch, 40, generator=generator) * 10).floor() / 10
    groups = torch.randint(3, (batch, 40), generator=generator)
    return boxes, scores, groups, torch.rand(batch, 40, generator=generator) > 0.2


def maps(batch: int) -> tuple[Tensor, ...]:
    """Two feature levels of images of 64 x 64, and RoIs [B, 8, 4]."""
    generator = torch.Generator().manual_seed(8)
    levels = [torch.randn(batch, 4, 64 // s, 64 // s, generator=generator) for s in (4, 8)]
    return *levels, boxes_in(64, batch, 8, generator=generator)


def pooled(fine: Tensor, coarse: Tensor, boxes: Tensor) -> Tensor:
    image = torch.arange(boxes.shape[0])[:, None, None].expand(-1, boxes.shape[1], 1).to(boxes.dtype)
    return ops.roi_align([fine, coarse], torch.cat((image, boxes), -1).flatten(0, 1), 3, [1 / 4, 1 / 8])


def convolved(batch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(batch, 4, 9, 7, generator=generator)
    return x, torch.randn(batch, 18, 9, 7, generator=generator), torch.rand(batch, 9, 9, 7, generator=generator)


def attended(batch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(10)
    locations = torch.rand(batch, 5, 2, 2, 3, 2, generator=generator) * 1.4 - 0.2
    return (
        torch.randn(batch, 26, 2, 4, generator=generator),
        locations,
        torch.rand(batch, 5, 2, 2, 3, generator=generator),
    )


def windowed(x: Tensor) -> Tensor:
    """Attention of one window [B, 1, M, N, C] with a bias for each head, as Swin's."""
    return F.scaled_dot_product_attention(x, x, x, attn_mask=BIAS)


BIAS = torch.randn(2, 26, 26, generator=torch.Generator().manual_seed(12))
KERNEL = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(11))

CASES: dict[str, tuple[Function, Callable[[int], tuple[Tensor, ...]]]] = {
    "nms_padded": (lambda b, s, g, v: ops.nms_padded(b, s, g, 0.5, 20, valid=v), scene),
    "nms_levels": (lambda b, s, g, v: ops.nms_levels(b, s, v, (25, 15), 0.5, 30), scene),
    "soft_nms_padded": (lambda b, s, g, v: ops.soft_nms_padded(b, s, g, 0.5, 10, v, method="gaussian"), scene),
    "top_indices": (lambda b, s, g, v: ops.top_indices(s, 15), scene),
    "roi_align": (pooled, maps),
    "deform_conv2d": (lambda x, o, m: ops.deform_conv2d(x, o, KERNEL, None, 1, 1, 1, m), convolved),
    "box_iou": (lambda b, s, g, v: ops.box_iou(b, b[:, :9]), scene),
    "adaptive_max_pool2d": (lambda x, o, m: F.adaptive_max_pool2d(x, (4, 3)), convolved),
    "attention": (lambda v, at, w: windowed(v.transpose(1, 2)[:, None]), attended),
    "ms_deform_attn": (lambda v, at, w: ops.ms_deform_attn(v, [(4, 5), (2, 3)], at, w), attended),
}


@pytest.mark.parametrize("name", CASES)
def test_a_body_computes_what_the_op_computes(name: str) -> None:
    function, inputs = CASES[name]
    model = exported(function, inputs(2))
    lint.check(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = inputs(3)
    wanted = {value.name for value in session.get_inputs()}
    feed = {f"x{i}": value.numpy() for i, value in enumerate(given) if f"x{i}" in wanted}
    expected = function(*given)
    for found, own in zip(
        session.run(None, feed), expected if isinstance(expected, tuple) else (expected,), strict=True
    ):
        np.testing.assert_allclose(found, own.numpy(), atol=2e-5, rtol=1e-4)
