"""One model of each kind of post-processing in half precision, and in TensorRT-RTX for several GPUs."""

import pytest

from fastdet.deploy.tensorrt import EngineOptions, build_engine, tensors_of
from fastdet.deploy.verify import limits_of
from tests.deploy.families import Exported, export, prove

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


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_in_half_precision_finds_nearly_the_same_and_is_built(kind: str) -> None:
    exported = export(KINDS[kind], "fp16", SIZE, thin=8)
    outcome = prove(exported, limits_of("fp16"))
    assert outcome.comparison.expected > 20
    assert outcome.comparison.holds(limits_of("fp16")), outcome
    pytest.importorskip("tensorrt_rtx")
    check_engines(exported, 84 if kind == "YOLOX" else 100, kind == "masks")
