"""A detector's graph as an ONNX file that runs as it is: standard operators, and fastdet's nodes with their bodies."""

import collections
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from fastdet import ops
from fastdet.deploy import lint
from fastdet.deploy.functions import CERTIFIED, IR_VERSION, FunctionLibrary
from fastdet.deploy.graph import OUTPUTS, ExportModule, GraphOptions, export_program
from fastdet.deploy.metadata import KEY, Metadata
from fastdet.deploy.precision import lowered
from fastdet.deploy.torch_backend import fold_batch_norm
from fastdet.deploy.translate import DOMAIN, OPSET, rename, to_onnx
from fastdet.utils.errors import CheckpointError, FastdetError
from fastdet.utils.files import replacing

INPUTS = ("images", "sizes")
LARGEST_FILE = 1_900_000_000
"""Bytes of weights up to which they are inside the file: protobuf ends at 2 GB."""


def export_model(detector: nn.Module, options: GraphOptions, metadata: Metadata) -> ModelProto:
    """The ONNX model of a detector in evaluation mode on the CPU.

    The network computes in the precision that the metadata names; of int8, `quantise` makes the rest.

    Inputs are `images` and `sizes` of `ExportModule`; outputs are `boxes`, `scores`, `labels`, `num`, `masks` of
    detectors that have them, and `exact`, int32 [B]: 1 where the detections are proven to be the detector's.

    Raises:
        UnsupportedConfig: a part of the detector cannot be exported.
        FastdetError: a shape that the detector does not take.
    """
    factor = getattr(getattr(detector, "roi_head", None), "reg_roi_scale_factor", None) or 1.0
    library = FunctionLibrary(
        candidates=options.candidates, rounds=options.rounds, area_factor=max(1.0, factor**2), largest=options.shape
    )
    module = ExportModule(lowered(detector, metadata.precision), options)
    program = export_program(module)
    if metadata.precision == "bf16":  # the ONNX optimizer would fold them into float32 weights
        fold_batch_norm(program)
    model = to_onnx(program, INPUTS[: 1 if options.whole_images else 2], library.decompositions())
    _fold_anchors(model)
    rename(model, {value.name: name for value, name in zip(model.graph.output, OUTPUTS, strict=False)})
    _add_certificate(model)
    model.functions.extend(library.functions())
    _name_batch(model)
    if options.least_shape is not None:
        _name_sides(model, options)
    model.graph.name = "fastdet"
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "fastdet", metadata.versions["fastdet"]
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    set_metadata(model, metadata)
    del model.graph.value_info[:]
    if _weight_bytes(model) <= LARGEST_FILE:  # larger ones are checked in their file
        onnx.checker.check_model(model)
    lint.check(model)
    return model


def operators(model: ModelProto) -> dict[str, int]:
    """How often each operator of the standard domain occurs, in the graph and in the functions."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    return dict(collections.Counter(node.op_type for node in nodes if node.domain in ("", "ai.onnx")))


def set_metadata(model: ModelProto, metadata: Metadata) -> None:
    """Writes the record into the model, in the place of an earlier one."""
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key == KEY}
    kept[KEY] = metadata.to_json()
    del model.metadata_props[:]
    helper.set_model_props(model, kept)


def read_metadata(model: ModelProto, file: str) -> Metadata:
    """The record of a model that fastdet exported.

    Raises:
        CheckpointError: the file is no export of fastdet's.
    """
    for entry in model.metadata_props:
        if entry.key == KEY:
            return Metadata.from_json(entry.value, file)
    raise CheckpointError(f"{file} is not an export of fastdet: make one with `python -m fastdet.export CFG CKPT`")


def save_model(model: ModelProto, path: str | os.PathLike[str]) -> None:
    """Writes the file whole or not at all; weights of more than 2 GB leave the model for FILE.data beside it."""
    target = Path(path)
    beside = target.with_name(f"{target.name}.data")
    if _weight_bytes(model) <= LARGEST_FILE:
        content = model.SerializeToString()
        with replacing(target) as file:
            file.write(content)
        beside.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        written = Path(folder) / target.name
        onnx.save_model(
            model, str(written), save_as_external_data=True, all_tensors_to_one_file=True, location=beside.name
        )
        onnx.checker.check_model(str(written))
        os.replace(written.with_name(beside.name), beside)
        os.replace(written, target)


def _weight_bytes(model: ModelProto) -> int:
    return sum(
        math.prod(t.dims) * helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in model.graph.initializer
    )


def _fold_anchors(model: ModelProto) -> None:
    """Puts the anchors of each grid into the graph: they depend on constants alone."""
    graph = model.graph
    grids = [n for n in graph.node if n.domain == DOMAIN and n.op_type == "grid_anchors"]
    for node in grids:
        base = _constant(graph, node.input[0])
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        sizes = list(zip(given["sizes"][::2], given["sizes"][1::2], strict=True))
        strides = list(zip(given["strides"][::2], given["strides"][1::2], strict=True))
        anchors = ops.grid_anchors(torch.from_numpy(base), sizes, strides)
        graph.initializer.append(numpy_helper.from_array(anchors.numpy(), node.output[0]))
    for node in grids:
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in [n for n in graph.node if not read & set(n.output)]:  # what base anchors were split by
        graph.node.remove(node)


def _constant(graph: onnx.GraphProto, name: str) -> np.ndarray:
    """A value that follows from constants alone.

    Raises:
        FastdetError: it does not.
    """
    makers = {output: node for node in graph.node for output in node.output}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    waiting = [name]
    while waiting:
        wanted = waiting.pop()
        if wanted in makers:
            nodes.insert(0, makers[wanted])
            waiting += [n for n in makers[wanted].input if n]
        elif wanted not in stored:
            raise FastdetError("anchors depend on the picture here, so that they cannot be exported")
    used = [stored[n] for n in dict.fromkeys([name, *(n for node in nodes for n in node.input)]) if n in stored]
    if name in stored:
        return numpy_helper.to_array(stored[name]).copy()
    part = helper.make_graph(
        nodes, "constant", [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)], used
    )
    model = helper.make_model(part, opset_imports=[helper.make_opsetid("", OPSET)])
    results: Any = ReferenceEvaluator(model).run(None, {})
    return np.array(results[0])


def _add_certificate(model: ModelProto) -> None:
    """The output `exact`: the least of what the suppressions say."""
    graph = model.graph
    said = [n.output[-1] for n in graph.node if n.domain == DOMAIN and n.op_type.startswith(CERTIFIED)]
    if not said:
        raise FastdetError("the graph has no suppression, so that nothing says whether it is exact")
    least = said[0]
    if len(said) > 1:
        graph.node.append(helper.make_node("Min", said, ["exact_int64"], name="exact_min"))
        least = "exact_int64"
    graph.node.append(helper.make_node("Cast", [least], ["exact"], to=TensorProto.INT32, name="exact_cast"))
    graph.output.append(helper.make_tensor_value_info("exact", TensorProto.INT32, ["batch"]))


def _name_batch(model: ModelProto) -> None:
    """Calls the dynamic first size of all inputs and outputs `batch`."""
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        first.Clear()
        first.dim_param = "batch"


def _name_sides(model: ModelProto, options: GraphOptions) -> None:
    """Calls the dynamic sizes of the images `height` and `width`."""
    sides = model.graph.input[0].type.tensor_type.shape.dim[1 if options.layout == "hwc" else 2 :]
    for side, name in zip(sides, ("height", "width"), strict=False):
        if side.dim_param:
            side.Clear()
            side.dim_param = name
