"""Int8 layers with scales from pictures; the last layers stay as they are."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from fastdet.deploy.quantise import _Histogram, quantise
from fastdet.utils.errors import FastdetError


def two_convolutions(scale: float = 1.0) -> ModelProto:
    """1x1 convolutions of 2 to 2 to 1 channels with a ReLU between them."""
    first = np.array([[1.0, 0.5], [0.25, -127.0]], np.float32).reshape(2, 2, 1, 1) * scale
    second = np.array([[1.0, 1.0]], np.float32).reshape(1, 2, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])],
        [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_all_layers_but_the_last_are_quantised() -> None:
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 2, 2, 2)
    model = quantise(two_convolutions(), [{"x": x}])
    onnx.checker.check_model(model)
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert arrays["w1_int8"].reshape(2, 2).tolist() == [[127, 64], [0, -127]]  # by channel: steps of 1 / 127, and of 1
    assert arrays["w1_scale"].tolist() == [np.float32(1 / 127), 1]
    assert "w1" not in arrays
    assert arrays["w2"].dtype == np.float32  # the last layer stays
    assert [n.op_type for n in model.graph.node].count("QuantizeLinear") == 1
    np.testing.assert_allclose(run(model, x), run(two_convolutions(), x), atol=0.6)


def test_rounding_is_by_steps_of_the_scale() -> None:
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 2, 2, 2)
    model = quantise(two_convolutions(), [{"x": x}])
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    step = float(arrays["x_scale"])
    assert step == pytest.approx(1 / 127, rel=0.02)
    seen = np.clip(np.rint(x / step), -128, 127) * step
    weight = np.array([[127, 64], [0, -127]]) * np.array([[1 / 127], [1.0]])
    expected = np.maximum(np.einsum("oi,bihw->bohw", weight, seen), 0).sum(1, keepdims=True)
    np.testing.assert_allclose(run(model, x), expected, atol=1e-4)


def test_one_value_in_ten_thousand_is_cut_off() -> None:
    histogram = _Histogram()
    generator = np.random.default_rng(0)
    for _ in range(20):
        histogram.add(generator.normal(0, 1, 50_000))
    histogram.add(np.array([4.0, 100.0]))
    assert histogram.scale() * 127 == pytest.approx(3.89, rel=0.03)  # of a normal distribution
    assert histogram.counts.sum() == 1_000_002
    even = _Histogram()
    even.add(generator.uniform(-3, 3, 50_000))
    assert even.scale() * 127 == pytest.approx(3, rel=0.02)


def test_a_constant_zero_has_a_scale() -> None:
    histogram = _Histogram()
    histogram.add(np.zeros(10))
    assert histogram.scale() == 1


def test_no_pictures_are_an_error() -> None:
    with pytest.raises(FastdetError, match="no pictures to calibrate with"):
        quantise(two_convolutions(), [])
