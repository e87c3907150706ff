"""The plugins' kernels on a GPU: launched by the driver as TensorRT launches them, and in an engine."""

import ctypes
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastdet.deploy.plugins.kernels import FEATURE, Columns, Plugin, Pooling, Suppression, ptx_of
from fastdet.deploy.plugins.registering import architecture_here
from fastdet.export import main
from tests.deploy.conftest import CONFIG, Exported
from tests.deploy.test_plugins import run

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
TYPES = {"float32": torch.float32, "int32": torch.int32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def launch(plugin: Plugin, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """What the kernel writes, on the CPU; outputs are full of rubbish before."""
    driver = pytest.importorskip("cuda.bindings.driver")

    def succeed(status: object, *results: object) -> object:
        assert status == driver.CUresult.CUDA_SUCCESS, status
        return results[0] if results else None

    kinds = list(plugin.inputs.values())
    feature = str(inputs[kinds.index(FEATURE)].dtype).removeprefix("torch.") if FEATURE in kinds else None
    there = [tensor.cuda().contiguous() for tensor in inputs]
    shapes = [tuple(tensor.shape) for tensor in there]
    outputs = [
        torch.full(shape, 77, dtype=TYPES[feature if kind == FEATURE and feature is not None else kind], device="cuda")
        for shape, kind in zip(plugin.output_shapes(shapes), plugin.outputs.values(), strict=True)
    ]
    call = plugin.launch(shapes)
    ptx = ptx_of(plugin, feature, architecture_here())
    module = succeed(*driver.cuModuleLoadData(ptx.encode() + b"\0"))
    function = succeed(*driver.cuModuleGetFunction(module, plugin.entry.encode()))
    values = (*(t.data_ptr() for t in there), *call.numbers, *(t.data_ptr() for t in outputs))
    pointers, results = [ctypes.c_void_p] * len(there), [ctypes.c_void_p] * len(outputs)
    types = (*pointers, *[ctypes.c_int] * len(call.numbers), *results)
    stream = torch.cuda.current_stream().cuda_stream
    succeed(*driver.cuLaunchKernel(function, *call.grid, call.threads, 1, 1, 0, stream, (values, types), 0))
    torch.cuda.synchronize()
    succeed(*driver.cuModuleUnload(module))
    return tuple(output.cpu() for output in outputs)


def scene(batch: int, boxes: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(batch, boxes, 2, generator=generator) * 300
    sides = torch.rand(batch, boxes, 2, generator=generator) * 80
    scores = (torch.rand(batch, boxes, generator=generator) * 500).floor() / 500  # with ties
    groups = torch.randint(5, (batch, boxes), generator=generator).int()
    valid = (torch.rand(batch, boxes, generator=generator) > 0.2).int()
    return [torch.cat((corners, corners + sides), -1), scores, groups, valid]


@pytest.mark.parametrize(("batch", "boxes"), [(1, 1), (3, 300), (2, 5000), (1, 80000)])
def test_the_kernel_of_nms_keeps_what_the_op_keeps(batch: int, boxes: int) -> None:
    plugin = Suppression(iou_threshold=0.5, max_output=300, shared_groups=False)
    inputs = scene(batch, boxes, seed=boxes)
    for found, expected in zip(launch(plugin, inputs)[:3], run(plugin, inputs)[:3], strict=True):
        assert torch.equal(found, expected)


def test_the_kernel_of_nms_goes_on_where_a_chunk_ends() -> None:
    plugin = Suppression(iou_threshold=0.5, max_output=5, shared_groups=True)
    boxes, scores, _, valid = scene(2, 9000, seed=1)
    groups = torch.zeros(9000, dtype=torch.int32)
    groups[-1] = 1
    inputs = [torch.tensor([0.0, 0, 9, 9]).expand_as(boxes), torch.full_like(scores, 0.25), groups, valid | 1]
    index, count, _, _, _ = launch(plugin, inputs)
    assert index.tolist() == [[0, 8999, 0, 0, 0]] * 2
    assert count.tolist() == [2, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_the_kernel_of_roi_align_pools_what_the_op_pools(dtype: torch.dtype, sampling_ratio: int) -> None:
    generator = torch.Generator().manual_seed(2)
    maps = [torch.randn(2, 37, 160 // s, 224 // s, generator=generator).to(dtype) for s in (4, 8, 16)]
    corners = torch.rand(200, 2, generator=generator) * 120
    image = torch.randint(2, (200, 1), generator=generator).float()
    rois = torch.cat((image, corners, corners + torch.rand(200, 2, generator=generator) * 150), -1)
    plugin = Pooling(
        spatial_scales=(1 / 4, 1 / 8, 1 / 16), output_size=(7, 5), sampling_ratio=sampling_ratio, aligned=True,
        finest_scale=28.0,
    )  # fmt: skip
    (found,), (expected,) = launch(plugin, [rois, *maps]), run(plugin, [rois, *maps])
    close = 1e-4 if dtype is torch.float32 else 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, atol=close, rtol=close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("masked", [True, False])
def test_the_kernel_of_columns_samples_what_the_op_samples(dtype: torch.dtype, masked: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(2, 80, 19, 23, generator=generator).to(dtype)
    offset = torch.randn(2, 36, 10, 23, generator=generator) * 3
    mask = torch.rand(2, 18, 10, 23, generator=generator)
    plugin = Columns(
        kernel_size=(3, 3), stride=(2, 1), padding=(1, 1), dilation=(1, 1), groups=2, offset_groups=2, masked=masked
    )
    given = [image, offset, mask] if masked else [image, offset]
    (found,), (expected,) = launch(plugin, given), run(plugin, [tensor.float() for tensor in given])
    close = 1e-4 if dtype is torch.float32 else 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.float(), expected, atol=close, rtol=close)


def test_an_engine_with_plugins_finds_what_torch_finds(exported: Exported, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt")
    target = tmp_path / "model.engine"
    arguments = [str(CONFIG), str(exported.checkpoint), "--backend", "tensorrt", "--shape", "128", "128", "--plugins"]
    assert main([*arguments, "--batch", "1", "2", "4", "--verify", "4", "--output", str(target)]) == 0
    record = json.loads((tmp_path / "model.json").read_text())
    assert record["engine"]["plugins"]["status"] == "run"
    assert record["engine"]["verification"]["inexact"] == 0
