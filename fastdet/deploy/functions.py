"""fastdet's ops as nodes of an ONNX graph, and their bodies as functions that the file brings along.

While a program is taken apart, each op becomes a node of the domain `fastdet` with the op's settings as attributes. The
body of that node, for these shapes and settings, is the function of the same name in a module
`static_*`, exported by itself. A runtime that has a kernel of its own for a node may use it instead.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torchvision.ops  # noqa: F401  # registers its deformable convolution, which models may call
from onnx import FunctionProto, helper
from torch import Tensor, nn

from fastdet.deploy import static_attention, static_ops, static_pooling, static_sampling, static_soft_nms
from fastdet.deploy.graph import quiet
from fastdet.deploy.translate import DOMAIN, OPSET, to_onnx
from fastdet.ops.box_iou import OVERLAPS
from fastdet.ops.reference_losses import box_iou
from fastdet.utils.errors import UnsupportedConfig

IR_VERSION = 10
CERTIFIED = ("nms_padded", "nms_levels", "soft_nms_padded")
"""Nodes whose last output says whether their result is exact, int64 [B]."""
MOST_CELLS = 6000
"""RoIAlign gathers at most so many cells a RoI; more would take gigabytes."""

_MADE: dict[Any, FunctionProto] = {}

Attribute = int | float | str | list[int] | list[float]


class _Signature(NamedTuple):
    """What makes two nodes share a body. A size is a number, or the name of a dynamic size."""

    kind: str
    attributes: tuple[tuple[str, Any], ...]
    inputs: tuple[tuple[tuple[int | str, ...], torch.dtype] | None, ...]


class _Body(nn.Module):
    """A function of the inputs that are there."""

    def __init__(self, function: Callable[..., Any], present: Sequence[bool]) -> None:
        super().__init__()
        self.function = function
        self.present = tuple(present)

    def forward(self, *inputs: Tensor) -> Any:
        given = iter(inputs)
        return self.function(*(next(given) if there else None for there in self.present))


class FunctionLibrary:
    """Turns ops into nodes, and remembers which bodies they need.

    Args:
        candidates, rounds: of non-maximum suppression, see GraphOptions.
        area_factor: RoIs have up to this times the area that their pyramid level is for.
        largest: (H, W) of the input, of a graph of any size the greatest; None: maps have one size.
    """

    def __init__(
        self, *, candidates: int, rounds: int, area_factor: float = 1.0, largest: tuple[int, int] | None = None
    ) -> None:
        self._largest = largest
        self._candidates = candidates
        self._rounds = rounds
        self._area_factor = area_factor
        self._bodies: dict[_Signature, tuple[str, Callable[..., Any]]] = {}

    def decompositions(self) -> dict[Any, Callable[..., Any]]:
        """What becomes of each op, for `to_onnx`."""
        own = torch.ops.fastdet
        return {
            own.nms_padded.default: self._nms_padded,
            own.nms_levels.default: self._nms_levels,
            own.soft_nms_padded.default: self._soft_nms_padded,
            own.roi_align.default: self._roi_align,
            own.deform_conv2d.default: self._deform_conv2d,
            torch.ops.torchvision.deform_conv2d.default: self._torchvision_deform_conv2d,
            own.ms_deform_attn.default: self._ms_deform_attn,
            own.grid_anchors.default: _grid_anchors,
            own.box_iou.default: _box_iou,
            torch.ops.aten.scaled_dot_product_attention.default: static_attention.attention,
            torch.ops.aten.adaptive_max_pool2d.default: static_pooling.adaptive_max_pool2d,
        }

    def functions(self) -> list[FunctionProto]:
        """The bodies of all nodes that were made."""
        return [self._function(name, signature, body) for signature, (name, body) in self._bodies.items()]

    def _function(self, name: str, signature: _Signature, body: Callable[..., Any]) -> FunctionProto:
        """A body, which is taken apart once in a process, however many detectors and shapes use it."""
        key = (signature, self._candidates, self._rounds, self._area_factor, self._largest)
        if key not in _MADE:
            _MADE[key] = _function(name, signature, body)
        made = FunctionProto()
        made.CopyFrom(_MADE[key])
        made.name = name
        return made

    def _node(
        self,
        kind: str,
        inputs: Sequence[Tensor | None],
        attributes: dict[str, Attribute],
        outputs: Sequence[tuple[torch.dtype, Sequence[Any]]],
        body: Callable[..., Any],
    ) -> Sequence[Tensor]:
        absent = [i for i, given in enumerate(inputs) if given is None]
        if absent:  # an input without a name is none that TensorRT reads
            attributes = {**attributes, "absent": absent}
        symbols: dict[str, str] = {}  # the names of dynamic sizes differ from program to program
        described = tuple(None if t is None else (_sizes(t.shape, symbols), t.dtype) for t in inputs)
        frozen = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in attributes.items())
        signature = _Signature(kind, frozen, described)
        if signature not in self._bodies:
            alike = sum(known.kind == kind for known in self._bodies)
            self._bodies[signature] = (f"{kind}_{alike + 1}" if alike else kind, body)
        return torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{self._bodies[signature][0]}",
            [given for given in inputs if given is not None],
            dict(attributes),
            dtypes=[dtype for dtype, _ in outputs],
            shapes=[list(shape) for _, shape in outputs],
            version=1,
        )

    def _nms_padded(
        self,
        boxes: Tensor,
        scores: Tensor,
        groups: Tensor | None,
        valid: Tensor | None,
        iou_threshold: float,
        max_output: int,
    ) -> tuple[Tensor, ...]:
        def body(boxes: Tensor, scores: Tensor, groups: Tensor | None, valid: Tensor | None) -> tuple[Tensor, ...]:
            return static_ops.nms_padded(
                boxes, scores, groups, valid, iou_threshold, max_output,
                candidates=self._candidates, rounds=self._rounds,
            )  # fmt: skip

        batch = boxes.shape[0]
        results = self._node(
            "nms_padded",
            (boxes, scores, *_filled(scores, groups, valid)),
            {"iou_threshold": iou_threshold, "max_output": max_output},
            [(torch.int64, (batch, max_output)), (torch.int64, (batch,)), (torch.int64, (batch,))],
            body,
        )
        return tuple(results[:2])

    def _nms_levels(
        self,
        boxes: Tensor,
        scores: Tensor,
        valid: Tensor,
        lengths: Sequence[int],
        iou_threshold: float,
        max_output: int,
    ) -> tuple[Tensor, ...]:
        longest = max(lengths)
        if longest > static_ops.TOP_K_LIMIT:
            raise UnsupportedConfig(
                f"a pyramid level has {longest} candidates for proposals: test_cfg.rpn.nms_pre must be at most "
                f"{static_ops.TOP_K_LIMIT}"
            )

        def body(boxes: Tensor, scores: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
            return static_ops.nms_levels(boxes, scores, valid, lengths, iou_threshold, max_output, rounds=self._rounds)

        batch = boxes.shape[0]
        results = self._node(
            "nms_levels",
            (boxes, scores, valid),
            {"lengths": list(lengths), "iou_threshold": iou_threshold, "max_output": max_output},
            [(torch.int64, (batch, max_output)), (torch.int64, (batch,)), (torch.int64, (batch,))],
            body,
        )
        return tuple(results[:2])

    def _soft_nms_padded(
        self,
        boxes: Tensor,
        scores: Tensor,
        groups: Tensor | None,
        valid: Tensor | None,
        method: int,
        iou_threshold: float,
        sigma: float,
        min_score: float,
        max_output: int,
    ) -> tuple[Tensor, ...]:
        def body(boxes: Tensor, scores: Tensor, groups: Tensor | None, valid: Tensor | None) -> tuple[Tensor, ...]:
            return static_soft_nms.soft_nms_padded(
                boxes, scores, groups, valid, method, iou_threshold, sigma, min_score, max_output,
                candidates=self._candidates,
            )  # fmt: skip

        attributes: dict[str, Attribute] = {
            "method": method,
            "iou_threshold": iou_threshold,
            "sigma": sigma,
            "min_score": min_score,
            "max_output": max_output,
        }
        slots, batch = (boxes.shape[0], max_output), (boxes.shape[0],)
        outputs = [(torch.int64, slots), (scores.dtype, slots), (torch.int64, batch), (torch.int64, batch)]
        inputs = (boxes, scores, *_filled(scores, groups, valid))
        return tuple(self._node("soft_nms_padded", inputs, attributes, outputs, body)[:3])

    def _roi_align(
        self,
        features: Sequence[Tensor],
        rois: Tensor,
        levels: Tensor | None,
        spatial_scales: Sequence[float],
        output_h: int,
        output_w: int,
        sampling_ratio: int,
        aligned: bool,
        finest_scale: float,
        channels_last: bool,
    ) -> Tensor:
        sizes = [self._greatest(f, scale) for f, scale in zip(features, spatial_scales, strict=True)]
        cells = static_sampling.window_cells(sizes, spatial_scales, finest_scale, self._area_factor)
        if cells > MOST_CELLS:
            raise UnsupportedConfig(
                f"RoIAlign from one map of {sizes[-1][0]} x {sizes[-1][1]} cells cannot be exported as gathers "
                f"({cells} cells a RoI, at most {MOST_CELLS}): export a smaller shape, or a detector with a pyramid"
            )

        def body(rois: Tensor, levels: Tensor | None, *features: Tensor) -> Tensor:
            return static_sampling.roi_align(
                features, rois, levels, spatial_scales, (output_h, output_w), sampling_ratio, aligned, finest_scale,
                area_factor=self._area_factor, window=cells,
            )  # fmt: skip

        attributes: dict[str, Attribute] = {
            "spatial_scales": list(spatial_scales),
            "output_size": [output_h, output_w],
            "sampling_ratio": sampling_ratio,
            "aligned": int(aligned),
            "finest_scale": finest_scale,
        }
        shape = (rois.shape[0], features[0].shape[1], output_h, output_w)
        return self._node("roi_align", (rois, levels, *features), attributes, [(features[0].dtype, shape)], body)[0]

    def _greatest(self, level: Tensor, scale: float) -> tuple[int, int]:
        """Height and width of a feature map, where they are dynamic those of the largest picture."""
        sides = []
        for axis in (0, 1):
            side = level.shape[2 + axis]
            if not isinstance(side, int):
                assert self._largest is not None
                side = math.ceil(self._largest[axis] * scale)
            sides.append(side)
        return sides[0], sides[1]

    def _deform_conv2d(
        self,
        input: Tensor,
        offset: Tensor,
        mask: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        channels_last: bool,
    ) -> Tensor:
        def body(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
            return static_sampling.deform_conv2d(input, offset, mask, weight, bias, stride, padding, dilation)

        attributes: dict[str, Attribute] = {
            "stride": list(stride),
            "padding": list(padding),
            "dilation": list(dilation),
            "kernel_size": [int(side) for side in weight.shape[2:]],
            "groups": int(input.shape[1]) // int(weight.shape[1]),
            "offset_groups": int(offset.shape[1]) // (2 * int(weight.shape[2] * weight.shape[3])),
        }
        shape = (input.shape[0], weight.shape[0], *offset.shape[2:])
        inputs = (input, offset, mask, weight, bias)
        return self._node("deform_conv2d", inputs, attributes, [(input.dtype, shape)], body)[0]

    def _ms_deform_attn(self, value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
        def body(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
            return static_attention.ms_deform_attn(value, sizes, locations, weights)

        shape = (value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])
        inputs = (value, locations, weights)
        return self._node("ms_deform_attn", inputs, {"sizes": list(sizes)}, [(value.dtype, shape)], body)[0]

    def _torchvision_deform_conv2d(
        self,
        input: Tensor,
        weight: Tensor,
        offset: Tensor,
        mask: Tensor,
        bias: Tensor,
        stride_h: int,
        stride_w: int,
        pad_h: int,
        pad_w: int,
        dilation_h: int,
        dilation_w: int,
        groups: int,
        offset_groups: int,
        use_mask: bool,
    ) -> Tensor:
        return self._deform_conv2d(
            input, offset, mask if use_mask else None, weight, bias,
            (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), False,
        )  # fmt: skip


def _grid_anchors(base_anchors: Tensor, sizes: Sequence[int], strides: Sequence[float]) -> Tensor:
    """A node without a body: all that it needs is constant, so the finished graph holds its value."""
    cells = sum(height * width for height, width in zip(sizes[::2], sizes[1::2], strict=True))
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::grid_anchors",
        [base_anchors],
        {"sizes": list(sizes), "strides": list(strides)},
        dtype=base_anchors.dtype,
        shape=[cells * base_anchors.shape[1], 4],
        version=1,
    )


def _box_iou(first: Tensor, second: Tensor, kind: int, eps: float) -> Tensor:
    """No node: a few operators that every runtime has."""
    return box_iou(first, second, kind=OVERLAPS[kind], eps=eps)


def _filled(scores: Tensor, groups: Tensor | None, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """One group and all boxes, where nothing is said: suppressions have the same inputs always."""
    return (
        torch.zeros_like(scores, dtype=torch.int64) if groups is None else groups,
        torch.ones_like(scores, dtype=torch.bool) if valid is None else valid,
    )


def _sizes(shape: Iterable[Any], symbols: dict[str, str]) -> tuple[int | str, ...]:
    """Dynamic sizes by number, in the order in which they are seen."""
    return tuple(s if isinstance(s, int) else symbols.setdefault(str(s), f"size{len(symbols)}") for s in shape)


def _function(name: str, signature: _Signature, body: Callable[..., Any]) -> FunctionProto:
    """The body, exported for the signature's shapes, as a function."""
    given = [entry for entry in signature.inputs if entry is not None]
    symbols = list(dict.fromkeys(size for shape, _ in given for size in shape if isinstance(size, str)))
    dims = {symbol: torch.export.Dim(symbol, min=1, max=1 << 30) for symbol in symbols}
    length = {symbol: 2 + i for i, symbol in enumerate(symbols)}

    def example(size: int | str) -> int:
        return length[size] if isinstance(size, str) else size

    examples = tuple(torch.zeros([example(s) for s in shape], dtype=dtype) for shape, dtype in given)
    dynamic = tuple({i: dims[s] for i, s in enumerate(shape) if isinstance(s, str)} for shape, _ in given)
    module = _Body(body, [entry is not None for entry in signature.inputs])
    with torch.no_grad(), quiet():
        program = torch.export.export(module, examples, dynamic_shapes=(dynamic,), strict=False)
    inputs = [f"input_{i}" for i, entry in enumerate(signature.inputs) if entry is not None]
    model = to_onnx(program, inputs)
    graph = model.graph
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor, name=f"constant_{i}")
        for i, tensor in enumerate(graph.initializer)
    ]
    return helper.make_function(
        DOMAIN,
        name,
        inputs,
        [value.name for value in graph.output],
        [*constants, *graph.node],
        [helper.make_opsetid("", OPSET)],
        attributes=[key for key, _ in signature.attributes],
    )
