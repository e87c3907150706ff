"""TensorRT-RTX reads and builds one model of each kind of post-processing, in each precision, for several GPUs."""

import functools

import numpy as np
import pytest
from onnx import ModelProto

from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.onnx_file import export_model
from fastdet.deploy.quantise import quantise
from fastdet.deploy.tensorrt import EngineOptions, build_engine, tensors_of
from tests.deploy.families import metadata_of, pictures, small

KINDS = {"dense": "fcos", "YOLOX": "yolox", "boxes": "faster_rcnn", "masks": "mask_rcnn"}
SIZE = 64
CAPABILITIES = ("SM80", "SM89", "SM120")


@functools.cache
def exported(kind: str, precision: str) -> tuple[ModelProto, Metadata]:
    """A thin detector's graph, and what it says of itself."""
    options = GraphOptions(shape=(SIZE, SIZE), candidates=200, rounds=4, max_detections=20)
    metadata = metadata_of(options, precision)
    model = export_model(small(KINDS[kind], thin=8), options, metadata)
    if precision == "int8":
        pixels, sizes = pictures(SIZE)
        images = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
        model = quantise(model, [{"images": images, "sizes": sizes.int().numpy()}])
    return model, metadata


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_is_built_for_each_gpu(kind: str, precision: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    model, metadata = exported(kind, precision)
    rows, masks = (-1, 20 if kind == "YOLOX" else 100), {"masks": ("output", (-1, 100, 28, 28), "FLOAT")}
    assert tensors_of(model, "tensorrt_rtx") == {
        "images": ("input", (-1, SIZE, SIZE, 3), "UINT8"),
        "sizes": ("input", (-1, 2), "INT32"),
        "boxes": ("output", (*rows, 4), "FLOAT"),
        "scores": ("output", rows, "FLOAT"),
        "labels": ("output", rows, "INT32"),
        "num": ("output", (-1,), "INT32"),
        "exact": ("output", (-1,), "INT32"),
        **(masks if kind == "masks" else {}),
    }
    for capability in CAPABILITIES:
        options = EngineOptions(backend="tensorrt_rtx", batch=(1, 2, 4), capability=capability)
        assert len(build_engine(model, metadata, options)) > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_an_engine_of_other_precisions_is_built(precision: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    model, metadata = exported("dense", precision)
    options = EngineOptions(backend="tensorrt_rtx", batch=(1, 2, 4), capability="SM89")
    assert len(build_engine(model, metadata, options)) > 100_000
