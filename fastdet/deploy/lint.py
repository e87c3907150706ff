"""What a graph must not hold, so that one file is read, built and computed right by every backend."""

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fastdet.deploy.static_ops import TOP_K_LIMIT
from fastdet.utils.errors import FastdetError

UNREAD = (
    "Unique", "Compress", "Col2Im", "AffineGrid", "MaxRoiPool", "MatMulInteger", "BitwiseAnd", "BitwiseOr",
    "BitwiseNot", "BitwiseXor", "BitShift", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceInsert",
    "SplitToSequence", "ConcatFromSequence",
)  # fmt: skip
OF_DATA = ("NonMaxSuppression", "NonZero")
REFUSED: dict[str, dict[str, str]] = {
    "onnx": {
        **dict.fromkeys(OF_DATA, "has a shape that depends on values, so that batches cost what images cost"),
        **dict.fromkeys(("Loop", "Scan", "If"), "waits for the host"),
    },
    "tensorrt": {
        **dict.fromkeys(UNREAD, "is not read"),
        **dict.fromkeys(OF_DATA, "has a shape that depends on values, which no CUDA graph holds"),
        **dict.fromkeys(("Loop", "Scan", "If"), "waits for the host"),
        "GridSample": "computes wrong values in several versions",
    },
    "tensorrt_rtx": {
        **dict.fromkeys((*UNREAD, *OF_DATA, "DeformConv"), "is not built"),
        **dict.fromkeys(("Loop", "Scan", "If"), "waits for the host"),
        "RoiAlign": "is read on a machine with a GPU alone",
        "Attention": "is built for some shapes alone",
        "GridSample": "computes wrong values in several versions",
    },
}
"""Operators of the standard domain by backend, with the reason."""


def problems(model: ModelProto, backend: str) -> list[str]:
    """What a backend makes of a model's graph and functions: one sentence a problem, none if it runs.

    Args:
        backend: a key of REFUSED.
    """
    refused = REFUSED[backend]
    found: list[str] = []
    for where, nodes, constants in _parts(model):
        for node in nodes:
            if node.domain not in ("", "ai.onnx"):
                if not all(node.input) and backend != "onnx":
                    found.append(f"{where} holds {node.op_type} with an input that has no name, which is not read")
                continue
            if node.op_type in refused:
                found.append(f"{where} holds {node.op_type}, which {refused[node.op_type]}")
            if backend != "onnx":
                found += [f"{where} holds {reason}" for reason in _of_tensorrt(node, constants)]
    if backend != "onnx":
        wide = sorted(t.name for t in model.graph.initializer if t.data_type == TensorProto.DOUBLE)
        found += [f"the graph holds {name} in float64, which is not computed" for name in wide]
    return list(dict.fromkeys(found))


def check(model: ModelProto) -> None:
    """Raises FastdetError if some backend cannot run the model, with the backend and the reason."""
    for backend in REFUSED:
        found = problems(model, backend)
        if found:
            raise FastdetError(f"{backend} cannot run this export: {'; '.join(found)}. Please report it")


def _parts(model: ModelProto) -> Iterator[tuple[str, list[NodeProto], Mapping[str, TensorProto]]]:
    """The graph and each function: its name, nodes and constants."""
    functions = [(f"the body of {function.name}", list(function.node)) for function in model.functions]
    for where, nodes in [("the graph", list(model.graph.node)), *functions]:
        constants = {node.output[0]: _value(node) for node in nodes if node.op_type == "Constant"}
        if where == "the graph":
            constants |= {tensor.name: tensor for tensor in model.graph.initializer}
        yield where, nodes, constants


def _value(node: NodeProto) -> TensorProto:
    """Of a Constant."""
    value = helper.get_attribute_value(node.attribute[0])
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value))


def _of_tensorrt(node: NodeProto, constants: Mapping[str, TensorProto]) -> Iterator[str]:
    """What TensorRT has against the settings of a node."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type in ("ScatterND", "ScatterElements") and given.get("reduction", b"none") != b"none":
        yield f"{node.op_type} with a reduction, which is not read"
    if node.op_type == "Resize" and given.get("antialias"):
        yield "Resize with antialias, which is not read"
    if node.op_type == "LayerNormalization" and len([name for name in node.output if name]) > 1:
        yield "LayerNormalization with statistics as outputs, which is not read"
    if node.op_type == "TopK" and node.input[1] in constants:
        number = int(numpy_helper.to_array(constants[node.input[1]]).reshape(-1)[0])
        if number > TOP_K_LIMIT:
            yield f"TopK of {number}, whose limit is {TOP_K_LIMIT}"
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type == TensorProto.UINT8 or numpy_helper.to_array(zero).any():
            yield f"{node.op_type} that is not symmetric int8, which is not read"
