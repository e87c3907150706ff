"""Options of the benchmarks."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from benchmarks.calibration import calibrate
from benchmarks.facts import facts
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
    chosen = config.getoption("--device")
    command = " ".join(["pytest", *(str(argument) for argument in config.invocation_params.args)])
    output_json["fastdet"] = {"calibration": calibrate(chosen), **facts(command, chosen, config.getoption("--threads"))}
