"""One model of each kind of post-processing in half precision, and in TensorRT-RTX for several GPUs."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from fastdet.deploy.quantise import quantise
from fastdet.deploy.tensorrt import EngineOptions, build_engine, tensors_of
from fastdet.deploy.verify import limits_of
from tests.deploy.families import Exported, export, pictures, prove

KINDS = {"dense": "fcos", "YOLOX": "yolox", "boxes": "faster_rcnn", "masks": "mask_rcnn"}
SIZE = 64
CAPABILITIES = ("SM80", "SM89", "SM120")


def check_engines(exported: Exported, slots: int, masks: bool) -> None:
    """Names, shapes and types that the parser sees, and an engine for each GPU."""
    rows = (-1, slots)
    assert tensors_of(exported.model, "tensorrt_rtx") == {
        "images": ("input", (-1, SIZE, SIZE, 3), "UINT8"),
        "sizes": ("input", (-1, 2), "INT32"),
        "boxes": ("output", (*rows, 4), "FLOAT"),
        "scores": ("output", rows, "FLOAT"),
        "labels": ("output", rows, "INT32"),
        "num": ("output", (-1,), "INT32"),
        "exact": ("output", (-1,), "INT32"),
        **({"masks": ("output", (*rows, 28, 28), "FLOAT")} if masks else {}),
    }
    for capability in CAPABILITIES:
        options = EngineOptions(backend="tensorrt_rtx", batch=(1, 2, 4), capability=capability)
        assert len(build_engine(exported.model, exported.metadata, options)) > 100_000


def quantised(exported: Exported) -> ModelProto:
    """Its int8 graph, calibrated with the pictures."""
    pixels, sizes = pictures(SIZE)
    images = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
    feeds = [{"images": images[i : i + 1], "sizes": sizes[i : i + 1].int().numpy()} for i in range(len(images))]
    return quantise(exported.model, feeds)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "dtype"), [("bf16", TensorProto.BFLOAT16), ("int8", TensorProto.INT8)])
def test_other_precisions_are_built(precision: str, dtype: int) -> None:
    pytest.importorskip("tensorrt_rtx")
    exported = export("retinanet", precision, SIZE, thin=8)
    model = quantised(exported) if precision == "int8" else exported.model
    kinds = {weights.name: weights.data_type for weights in model.graph.initializer}
    kernels = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    assert len(kernels) > 20
    if precision == "bf16":
        assert {kinds[name] for name in kernels} == {dtype}
    else:
        assert sum(kind == dtype for kind in kinds.values()) > 20
    options = EngineOptions(backend="tensorrt_rtx", batch=(1, 2, 4), capability="SM89")
    assert len(build_engine(model, exported.metadata, options)) > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_in_half_precision_finds_nearly_the_same_and_is_built(kind: str) -> None:
    exported = export(KINDS[kind], "fp16", SIZE, thin=8)
    outcome = prove(exported, limits_of("fp16"))
    assert outcome.comparison.expected > 20
    assert outcome.comparison.holds(limits_of("fp16")), outcome
    pytest.importorskip("tensorrt_rtx")
    check_engines(exported, 84 if kind == "YOLOX" else 100, kind == "masks")
