"""What a graph must not hold for each backend."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from fastdet.deploy import lint
from fastdet.utils.errors import FastdetError
from tests.deploy.conftest import Exported


def model_of(
    kind: str, inputs: int = 1, outputs: int = 1, constants: dict[int, Any] | None = None, **given: Any
) -> ModelProto:
    """A graph of one node, some of whose inputs are constants."""
    names = [f"in{i}" for i in range(inputs)]
    constants = constants or {}
    node = helper.make_node(kind, names, [f"out{i}" for i in range(outputs)], **given)
    free = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for i, n in enumerate(names) if i not in constants
    ]
    made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in node.output]
    values = [numpy_helper.from_array(np.asarray(value), names[i]) for i, value in constants.items()]
    return helper.make_model(helper.make_graph([node], "one", free, made, values))


@pytest.mark.parametrize("backend", sorted(lint.REFUSED))
def test_an_export_holds_nothing_that_a_backend_refuses(exported: Exported, backend: str) -> None:
    assert lint.problems(onnx.load(exported.file), backend) == []


@pytest.mark.parametrize(
    ("kind", "backends"),
    [
        ("NonMaxSuppression", {"onnx", "tensorrt", "tensorrt_rtx"}),
        ("NonZero", {"onnx", "tensorrt", "tensorrt_rtx"}),
        ("Loop", {"onnx", "tensorrt", "tensorrt_rtx"}),
        ("GridSample", {"tensorrt", "tensorrt_rtx"}),
        ("RoiAlign", {"tensorrt_rtx"}),
        ("DeformConv", {"tensorrt_rtx"}),
        ("Unique", {"tensorrt", "tensorrt_rtx"}),
        ("Relu", set()),
    ],
)
def test_operators_are_refused_by_backend(kind: str, backends: set[str]) -> None:
    assert {backend for backend in lint.REFUSED if lint.problems(model_of(kind), backend)} == backends


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (model_of("ScatterND", 3, reduction="add"), "with a reduction"),
        (model_of("ScatterND", 3), None),
        (model_of("Resize", 3, antialias=1), "with antialias"),
        (model_of("LayerNormalization", 3, outputs=3), "statistics as outputs"),
        (model_of("TopK", 2, 2, {1: np.array([3841])}), "TopK of 3841, whose limit is 3840"),
        (model_of("TopK", 2, 2, {1: np.array([3840])}), None),
        (model_of("QuantizeLinear", 3, constants={1: np.float32(1), 2: np.uint8(0)}), "not symmetric int8"),
        (model_of("QuantizeLinear", 3, constants={1: np.float32(1), 2: np.int8(1)}), "not symmetric int8"),
        (model_of("QuantizeLinear", 3, constants={1: np.float32(1), 2: np.int8(0)}), None),
        (model_of("Add", 2, constants={1: np.float64(1)}), "in1 in float64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_are_refused_by_tensorrt(model: ModelProto, said: str | None) -> None:
    for backend in ("tensorrt", "tensorrt_rtx"):
        found = lint.problems(model, backend)
        assert said in found[0] if said else found == []
    assert lint.problems(model, "onnx") == []


def test_bodies_are_looked_into() -> None:
    model = model_of("Relu")
    inner = [helper.make_node("NonZero", ["x"], ["y"])]
    model.functions.append(helper.make_function("fastdet", "f", ["x"], ["y"], inner, [helper.make_opsetid("", 18)]))
    with pytest.raises(FastdetError, match="onnx cannot run this export: the body of f holds NonZero, which has"):
        lint.check(model)


def test_an_input_without_a_name_is_refused_by_tensorrt() -> None:
    model = model_of("Relu")
    model.graph.node.append(helper.make_node("roi_align", ["x", "", "y"], ["z"], domain="fastdet"))
    assert lint.problems(model, "tensorrt") == [
        "the graph holds roi_align with an input that has no name, which is not read"
    ]
    assert lint.problems(model, "onnx") == []
