"""Programs of torch as ONNX models."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx
import torch
from onnx import ModelProto
from onnxscript import opset18

from fastdet.deploy.graph import quiet
from fastdet.utils.errors import UnsupportedConfig

DOMAIN = "fastdet"
OPSET = 18


def _top_indices(scores: Any, number: Any) -> Any:
    """ONNX's TopK puts the lower index first among equals, as the op does."""
    length: Any = opset18.Constant(value_ints=[number])
    _, indices = opset18.TopK(scores, length)
    return indices


def to_onnx(
    program: torch.export.ExportedProgram, names: Sequence[str], own: Mapping[Any, Callable[..., Any]] | None = None
) -> ModelProto:
    """The ONNX model of a program.

    Args:
        names: of the inputs.
        own: what becomes of fastdet's ops, of `FunctionLibrary.decompositions`.

    Raises:
        UnsupportedConfig: an op that has no ONNX form.
    """
    top_indices = torch.ops.fastdet.top_indices.default
    own = own or {}
    for call in program.graph.nodes:
        if getattr(call.target, "namespace", "") == DOMAIN and call.target not in (top_indices, *own):
            raise UnsupportedConfig(
                f"this detector cannot be exported: {call.target} has no body of standard operators"
            )
    decompose = program.run_decompositions
    # torch takes the program apart with its own table: with both tables at once, that happens once
    program.run_decompositions = lambda table: decompose({**table, **own})
    translations: dict[Any, Any] = {top_indices: _top_indices}
    try:
        with quiet():
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, custom_translation_table=translations, verbose=False
            )
    except Exception as problem:
        cause = problem.__cause__ or problem
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UnsupportedConfig(f"this detector cannot be exported: {reason}") from problem
    assert exported is not None
    model = exported.model_proto
    for value, name in zip(model.graph.input, names, strict=True):
        rename(model, {value.name: name})
    strip(model.graph.node)
    return model


def rename(model: ModelProto, names: dict[str, str]) -> None:
    """Gives values of the main graph other names."""
    for node in model.graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)


def strip(nodes: Iterable[onnx.NodeProto]) -> None:
    """Removes what the exporter notes about nodes: source lines of the machine that exported."""
    for node in nodes:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
