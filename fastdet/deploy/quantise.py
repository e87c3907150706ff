"""An ONNX model of ours with int8 convolutions and matrix products: pairs of QuantizeLinear and DequantizeLinear.

Quantised are the layers of the network but the last ones, whose outputs are scores and boxes: those, the decoding and
the suppression stay float32. So do convolutions in groups: depthwise ones read values of very different sizes with one
scale, and gain no time. Everything is symmetric, since TensorRT knows no zero points: weights by output channel,
activations by tensor, with a scale that 99.99 % of the values on the calibration pictures are within.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fastdet.deploy import lint
from fastdet.deploy.onnx_file import save_model
from fastdet.utils.errors import EnvironmentProblem, FastdetError

LEVELS = 127
KEPT = 0.9999
"""The share of an activation's values that is not cut off."""
BINS = 2048
SAMPLED = 200_000
"""Values of a tensor that a picture adds to its histogram at most; its largest value always sets the range."""
WEIGHT_AXIS = {"Conv": 0, "Gemm": 0, "MatMul": 1}
"""Operators that are quantised, and the axis of their output channels in the weight (of Gemm: with transB)."""

Feed = Mapping[str, np.ndarray]


def quantise(model: ModelProto, pictures: Iterable[Feed]) -> ModelProto:
    """A copy of a float32 model with int8 layers.

    Args:
        model: as `export_model` makes it.
        pictures: inputs of the model by name, of typical pictures.

    Raises:
        FastdetError: no pictures, or nothing to quantise.
        EnvironmentProblem: onnxruntime is missing.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    layers = _layers(graph, weights)
    if not layers:
        raise FastdetError("--precision int8: the graph has no layer that can be quantised")
    names = list(dict.fromkeys(node.input[0] for node in layers))
    scales = {name: histogram.scale() for name, histogram in _histograms(model, names, pictures).items()}
    added = _Added([], [], set())
    quantised = {name: added.activation(name, scale) for name, scale in scales.items()}
    for node in layers:
        weight = weights[node.input[1]]
        node.input[0] = quantised[node.input[0]]
        node.input[1] = added.weight(weight, WEIGHT_AXIS[node.op_type])
    still_read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in still_read]
    nodes = _in_order([*added.nodes, *graph.node], {t.name for t in (*kept, *added.tensors)})
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *added.tensors])
    lint.check(result)
    return result


class _Histogram:
    """How often absolute values occur, over a range that doubles when it must."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS)
        self.limit = 0.0

    def add(self, values: np.ndarray) -> None:
        flat = np.abs(values.reshape(-1))
        largest = float(flat.max(initial=0.0))
        if self.limit == 0.0:
            self.limit = largest
        while largest > self.limit > 0:
            self.counts = np.concatenate((self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2)))
            self.limit *= 2
        if self.limit > 0:
            counts, _ = np.histogram(flat[:: max(1, -(-len(flat) // SAMPLED))], BINS, (0.0, self.limit))
            self.counts += counts

    def scale(self) -> float:
        """The step between two levels, so that few values are cut off; 1 for a constant 0."""
        if self.limit == 0.0:
            return 1.0
        below = np.searchsorted(np.cumsum(self.counts), KEPT * self.counts.sum())
        return float((below + 1) * self.limit / BINS / LEVELS)


class _Added(NamedTuple):
    """What the quantised graph has beside the float32 one's nodes."""

    nodes: list[NodeProto]
    tensors: list[TensorProto]
    weights: set[str]

    def activation(self, name: str, scale: float) -> str:
        """Rounds a value of the graph; the name of what comes out."""
        step, zero = self._scale(name, np.float32(scale))
        self.nodes.append(helper.make_node("QuantizeLinear", [name, step, zero], [f"{name}_int8"], f"{name}_quantise"))
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear", [f"{name}_int8", step, zero], [f"{name}_rounded"], f"{name}_dequantise"
            )
        )
        return f"{name}_rounded"

    def weight(self, tensor: TensorProto, axis: int) -> str:
        """A weight in int8 by output channel, which several layers may share; the name of its values."""
        rounded = f"{tensor.name}_rounded"
        if rounded in self.weights:
            return rounded
        self.weights.add(rounded)
        values = numpy_helper.to_array(tensor)
        rest = tuple(i for i in range(values.ndim) if i != axis)
        largest = np.abs(values).max(axis=rest)
        scale = np.where(largest > 0, largest / LEVELS, 1.0).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        steps = np.clip(np.rint(values / scale.reshape(shape)), -LEVELS, LEVELS).astype(np.int8)
        self.tensors.append(numpy_helper.from_array(steps, f"{tensor.name}_int8"))
        step, zero = self._scale(tensor.name, scale)
        inputs = [f"{tensor.name}_int8", step, zero]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [rounded], f"{tensor.name}_weight", axis=axis))
        return rounded

    def _scale(self, name: str, scale: np.ndarray | np.float32) -> tuple[str, str]:
        array = np.asarray(scale)
        self.tensors.append(numpy_helper.from_array(array, f"{name}_scale"))
        self.tensors.append(numpy_helper.from_array(np.zeros_like(array, np.int8), f"{name}_zero"))
        return f"{name}_scale", f"{name}_zero"


def _layers(graph: onnx.GraphProto, weights: Mapping[str, TensorProto]) -> list[NodeProto]:
    """The layers to quantise: with a float32 weight that is theirs, and another layer after them."""
    able = [node for node in graph.node if _is_able(node, weights)]
    stops = {id(node) for node in able}
    maker = {name: node for node in graph.node for name in node.output}
    last: set[int] = set()
    reached: set[int] = set()
    waiting = [maker[value.name] for value in graph.output]
    while waiting:
        node = waiting.pop()
        if id(node) in reached:
            continue
        reached.add(id(node))
        if id(node) in stops:
            last.add(id(node))
        else:
            waiting += [maker[name] for name in node.input if name in maker]
    return [node for node in able if id(node) not in last]


def _is_able(node: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    if node.op_type not in WEIGHT_AXIS or len(node.input) < 2 or node.input[1] not in weights:
        return False
    weight = weights[node.input[1]]
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = given.get("group", 1) == 1 if node.op_type == "Conv" else node.op_type == "MatMul" or given.get("transB")
    return bool(plain) and weight.data_type == TensorProto.FLOAT and len(weight.dims) >= 2


def _histograms(model: ModelProto, names: list[str], pictures: Iterable[Feed]) -> dict[str, _Histogram]:
    """What values each tensor has over the pictures; only what leads to them is computed."""
    try:
        import onnxruntime
    except ImportError as problem:
        raise EnvironmentProblem("--precision int8 runs the graph in onnxruntime: pip install onnxruntime") from problem
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "watched.onnx")
        save_model(watched, file)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    histograms = {name: _Histogram() for name in names}
    number = 0
    for feed in pictures:
        number += 1
        values = session.run(names, {name: value for name, value in feed.items() if name in wanted})
        for name, value in zip(names, values, strict=True):
            histograms[name].add(value)
    if not number:
        raise FastdetError("--precision int8: there are no pictures to calibrate with")
    return histograms


def _in_order(nodes: list[NodeProto], known: set[str]) -> list[NodeProto]:
    """The nodes, those that make a value before those that read it, else in the order they had."""
    made = {name for node in nodes for name in node.output}
    ordered: list[NodeProto] = []
    waiting = list(nodes)
    present = set(known)
    while waiting:
        later: list[NodeProto] = []
        for node in waiting:
            if all(not name or name in present or name not in made for name in node.input):
                ordered.append(node)
                present.update(node.output)
            else:
                later.append(node)
        assert len(later) < len(waiting), "the graph has a cycle"
        waiting = later
    return ordered
