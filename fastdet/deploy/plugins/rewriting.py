"""fastdet's nodes of an ONNX graph as nodes of plugins.

TensorRT reads a node that it does not know as a plugin's, of the namespace in the attribute `plugin_namespace`, and
takes a kernel from ahead of time where `aot` is 1. Functions that no node calls any more leave the model.
"""

import collections
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fastdet.deploy.plugins.kernels import MOST_LEVELS, Columns, Plugin, Pooling, Suppression, name_of
from fastdet.deploy.translate import DOMAIN
from fastdet.utils.errors import FastdetError

_CASTS = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}


class Rewritten(NamedTuple):
    """A model with plugins.

    Args:
        model: for TensorRT alone.
        plugins: to register before it is parsed.
        replaced: how many nodes of each kind have a plugin now.
        kept: how many have their body still, since no kernel computes them as they are.
    """

    model: ModelProto
    plugins: tuple[Plugin, ...]
    replaced: dict[str, int]
    kept: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: no plugin has run before the engine does."""
        return {"status": "not run", "replaced": self.replaced, "bodies": self.kept}


def with_plugins(model: ModelProto) -> Rewritten:
    """The model, as a copy, with plugins for all suppressions, pyramid RoIAligns and deformable convolutions.

    Raises:
        FastdetError: there is nothing to replace, or a node lacks what a plugin needs.
    """
    rewritten = ModelProto()
    rewritten.CopyFrom(model)
    plugins: dict[str, Plugin] = {}
    replaced: collections.Counter[str] = collections.Counter()
    kept: collections.Counter[str] = collections.Counter()
    nodes: list[NodeProto] = []
    for node in rewritten.graph.node:
        kind = kind_of(node)
        if kind is None:
            nodes.append(node)
            continue
        work = _Work(node)
        if kind not in _REPLACE or not _REPLACE[kind](work):
            kept[kind] += 1
            nodes.append(node)
            continue
        replaced[kind] += 1
        nodes += work.nodes
        rewritten.graph.initializer.extend(work.constants)
        plugins |= {name_of(plugin): plugin for plugin in work.plugins}
    if not plugins:
        raise FastdetError("--plugins: the graph has no node that a plugin computes; leave the option out")
    del rewritten.graph.node[:]
    rewritten.graph.node.extend(nodes)
    used = {node.op_type for node in nodes if node.domain == DOMAIN}
    functions = [function for function in rewritten.functions if function.name in used]
    del rewritten.functions[:]
    rewritten.functions.extend(functions)
    return Rewritten(rewritten, tuple(plugins.values()), dict(replaced), dict(kept))


def kind_of(node: NodeProto) -> str | None:
    """The op that a node of fastdet's stands for, without the number of its body; None of other nodes."""
    return re.sub(r"_\d+$", "", node.op_type) if node.domain == DOMAIN else None


@contextmanager
def parsed_source(model: ModelProto | str, rewritten: Rewritten | None) -> Iterator[ModelProto | str]:
    """What a parser is to read: the model as it is, or rewritten; of a file a file, beside that of its weights."""
    if rewritten is None or isinstance(model, ModelProto):
        yield model if rewritten is None else rewritten.model
        return
    path = Path(model)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}.plugins.", suffix=path.suffix) as file:
        file.write(rewritten.model.SerializeToString())
        file.flush()
        yield file.name


def read_with_plugins(file: str | os.PathLike[str]) -> Rewritten:
    """`with_plugins` of a file, whose weights stay outside if they are.

    Raises:
        FastdetError: see with_plugins.
    """
    return with_plugins(onnx.load(file, load_external_data=False))


class _Work:
    """What comes in the place of one node."""

    def __init__(self, node: NodeProto) -> None:
        self.node = node
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.plugins: list[Plugin] = []

    def attribute(self, name: str) -> Any:
        """
        Raises:
            FastdetError: the node has no such attribute.
        """
        if name not in self.attributes:
            raise FastdetError(f"--plugins: {self.node.op_type} ({self.node.name}) has no {name!r}: export it again")
        return self.attributes[name]

    def inputs(self, number: int) -> list[str | None]:
        """Names of the first inputs, None of those that the node lacks."""
        given, absent = iter(self.node.input), self.attributes.get("absent", ())
        return [None if i in absent else next(given) for i in range(number)]

    def add(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """A node of ONNX with one output; its name."""
        name = self._name(operator.lower())
        self.nodes.append(helper.make_node(operator, inputs, [output or name], name=name, **attributes))
        return output or name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """The name of new numbers."""
        name = self._name(f"constant_{len(self.constants)}")
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def plugin(self, plugin: Plugin, inputs: Iterable[str], outputs: Sequence[str] = ()) -> list[str]:
        """A plugin's node, with casts of inputs whose type is given; names of its outputs, new ones if need be."""
        given = [
            self.add("Cast", [name], to=_CASTS[kind]) if kind in _CASTS else name
            for name, kind in zip(inputs, plugin.inputs.values(), strict=True)
        ]
        results = list(outputs) or [self._name(name) for name in plugin.outputs]
        node = helper.make_node(name_of(plugin), given, results, name=self._name("plugin"), domain=DOMAIN)
        for name, value in (("plugin_namespace", DOMAIN), ("plugin_version", "1"), ("aot", 1)):
            node.attribute.append(helper.make_attribute(name, value))
        self.plugins.append(plugin)
        self.nodes.append(node)
        return results

    def _name(self, part: str) -> str:
        """A name that is nobody else's: the node's first output has one already."""
        return f"{self.node.output[0]}/{part}_{len(self.nodes)}"


def _suppress(work: _Work, groups: str, valid: str, *, shared_groups: bool) -> None:
    suppression = Suppression(
        iou_threshold=work.attribute("iou_threshold"),
        max_output=work.attribute("max_output"),
        shared_groups=shared_groups,
    )
    boxes, scores = work.node.input[:2]
    results = work.plugin(suppression, (boxes, scores, groups, valid))
    for name, result in zip(work.node.output, results, strict=False):
        work.add("Cast", [result], name, to=TensorProto.INT64)


def _nms_padded(work: _Work) -> bool:
    _, _, groups, valid = work.node.input
    _suppress(work, groups, valid, shared_groups=False)
    return True


def _nms_levels(work: _Work) -> bool:
    lengths = work.attribute("lengths")
    groups = work.constant(np.repeat(np.arange(len(lengths)), lengths), np.int32)
    _suppress(work, groups, work.node.input[2], shared_groups=True)
    return True


def _roi_align(work: _Work) -> bool:
    scales = work.attribute("spatial_scales")
    rois, levels, *maps = work.inputs(2 + len(scales))
    if levels is not None or len(scales) > MOST_LEVELS:
        return False
    pooling = Pooling(
        spatial_scales=tuple(scales),
        output_size=tuple(work.attribute("output_size")),
        sampling_ratio=work.attribute("sampling_ratio"),
        aligned=bool(work.attribute("aligned")),
        finest_scale=work.attribute("finest_scale"),
    )
    work.plugin(pooling, (rois, *maps), work.node.output)  # type: ignore[arg-type]
    return True


def _deform_conv2d(work: _Work) -> bool:
    image, offset, mask, weight, bias = work.inputs(5)
    assert image is not None
    assert offset is not None
    assert weight is not None
    groups = work.attribute("groups")
    columns = Columns(
        kernel_size=tuple(work.attribute("kernel_size")),
        stride=tuple(work.attribute("stride")),
        padding=tuple(work.attribute("padding")),
        dilation=tuple(work.attribute("dilation")),
        groups=groups,
        offset_groups=work.attribute("offset_groups"),
        masked=mask is not None,
    )
    (sampled,) = work.plugin(columns, (image, offset, *([] if mask is None else [mask])))
    kernel = work.add("Flatten", [weight], axis=1)  # [O, C / G * T]
    kernel = work.add("Unsqueeze", [kernel, work.constant([0])])
    kernel = work.add("Reshape", [kernel, work.constant([groups, -1, 0])])  # [G, O / G, C / G * T]
    product = work.add("MatMul", [kernel, sampled])  # [B, G, O / G, H * W]
    sides = work.add("Slice", [work.add("Shape", [offset]), work.constant([2]), work.constant([4])])
    shape = work.add("Concat", [work.constant([0, -1]), sides], axis=0)
    last = work.node.output[0]
    result = work.add("Reshape", [product, shape], last if bias is None else None)  # [B, O, H, W]
    if bias is not None:
        work.add("Add", [result, work.add("Unsqueeze", [bias, work.constant([1, 2])])], last)
    return True


_REPLACE = {
    "nms_padded": _nms_padded,
    "nms_levels": _nms_levels,
    "roi_align": _roi_align,
    "deform_conv2d": _deform_conv2d,
}
"""Kind -> what writes its plugins, and says whether a kernel computes the node."""
