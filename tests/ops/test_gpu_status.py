"""The CUDA kernels that no GPU has run are named."""

import importlib.util
from pathlib import Path

import pytest
import torch

from fastdet import ops
from fastdet.ops import gpu_status
from fastdet.utils.environment import collect_environment, describe_environment

MADE_OF_OTHERS = {"nms_levels", "top_indices"}
"""Ops in Python, which call kernels of other ops."""


@pytest.fixture
def built() -> None:
    if torch.version.cuda is None or importlib.util.find_spec("fastdet._ops_cuda") is None:
        pytest.skip("the CUDA ops are not built")


def test_ops_on_the_list_exist() -> None:
    assert all(hasattr(torch.ops.fastdet, name) for name in gpu_status.RUN_ON_A_GPU)


@pytest.mark.usefixtures("built")
def test_every_op_with_a_cuda_kernel_is_unproven_until_it_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_status, "RUN_ON_A_GPU", {})
    everything = gpu_status.never_run_on_a_gpu()
    assert {"nms", "roi_align", "roi_align_backward", "deform_conv2d", "ms_deform_attn"} <= set(everything)
    native = {name for name in ops.__all__ if hasattr(torch.ops.fastdet, name)} - MADE_OF_OTHERS
    assert native <= set(everything)
    monkeypatch.setattr(gpu_status, "RUN_ON_A_GPU", {"nms": "NVIDIA H100 (9.0)"})
    assert set(everything) - set(gpu_status.never_run_on_a_gpu()) == {"nms"}


@pytest.mark.usefixtures("built")
def test_the_doctor_names_them() -> None:
    environment = collect_environment()
    assert environment.unproven_cuda_ops == gpu_status.never_run_on_a_gpu()
    text = describe_environment(environment)
    assert all(name in text for name in environment.unproven_cuda_ops)


def test_the_doctor_names_plugins_that_are_there() -> None:
    folder = Path(__file__).resolve().parents[2] / "csrc" / "plugins"
    assert set(gpu_status.PLUGINS_NEVER_RUN_ON_A_GPU) <= {file.stem for file in folder.glob("*.cu")}
    text = describe_environment(collect_environment())
    assert all(name in text.partition("plugins")[2] for name in gpu_status.PLUGINS_NEVER_RUN_ON_A_GPU)
