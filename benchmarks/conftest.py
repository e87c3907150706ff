"""Options of the benchmarks, and the facts about machine and software that go with every result."""

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.calibration import calibrate
from benchmarks.timing import Timing


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where the ops run")
    parser.addoption("--threads", type=int, default=1, help="threads of torch's pool on the CPU")


@pytest.fixture(scope="session", autouse=True)
def threads(request: pytest.FixtureRequest) -> None:
    torch.set_num_threads(request.config.getoption("--threads"))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The chosen device; on a GPU, inputs are made on a stream of their own, which a graph can capture."""
    chosen = request.config.getoption("--device")
    if chosen == "cpu":
        yield chosen
        return
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    with torch.cuda.stream(torch.cuda.Stream()):
        yield chosen


@pytest.fixture
def timing(benchmark: Any, device: str) -> Timing:
    """Measures one row of a group; see `Timing`."""
    return Timing(benchmark, device)


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Adds what a figure means nothing without, and drops what tells of the machine's name and folders."""
    output_json.pop("commit_info", None)
    output_json["machine_info"].pop("node", None)
    output_json["fastdet"] = {
        "calibration": calibrate(config.getoption("--device")),
        "command": " ".join(["pytest", *(str(argument) for argument in config.invocation_params.args)]),
        "commit": _commit(),
        "device": config.getoption("--device"),
        "hardware": _hardware(config.getoption("--device")),
        "threads": config.getoption("--threads"),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _commit() -> str:
    root = Path(__file__).parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    from fastdet import _C

    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {_C.build_info()['cpu_kernels']} kernels"


def _versions() -> dict[str, str]:
    import torchvision

    return {"torch": torch.__version__, "torchvision": torchvision.__version__}
