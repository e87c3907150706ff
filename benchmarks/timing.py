"""One way to time every row: warm-up, several rounds, the minimum as the figure to compare."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

WARM_UP = 2
ROUNDS = 7
REPLAYS = 20


class Work(NamedTuple):
    """What a workload must do at least, whoever does it; its time on this machine is the roofline.

    Args:
        bytes: Read from and written to main memory once: inputs that are used, and results.
        cached_bytes: Read from caches when every sample is read where it is used.
        flops: Operations of the arithmetic units; a multiplication with an addition counts 2.
    """

    bytes: float
    cached_bytes: float = 0.0
    flops: float = 0.0


class Timing:
    """Runs a function of no arguments under pytest-benchmark.

    On the CPU the clock is the thread's own time, which other programs on the machine do not lengthen; that needs one
    thread. On a GPU the host waits for the device after every call, which is the wall time; beside it goes the device
    time of a CUDA graph of the call, which holds no time of the host's. Calls that wait for the device have no graph.
    """

    def __init__(self, benchmark: Any, device: str) -> None:
        self._benchmark = benchmark
        self._device = device

    def __call__(
        self, group: str, row: str, function: Callable[[], object], *, work: Work, rounds: int = ROUNDS
    ) -> None:
        """Times a row.

        Args:
            group: "op, workload, dtype": what the rows of a group share.
            row: The implementation.
            function: What is timed.
            work: What the rows of the group must do at least, for their share of the roofline.
            rounds: How often it is timed.
        """
        self._benchmark.group = group
        self._benchmark.extra_info["row"] = row
        self._benchmark.extra_info["work"] = work._asdict()
        if self._device == "cpu" and torch.get_num_threads() == 1:
            self._benchmark._timer = time.thread_time
        self._benchmark.pedantic(self._waiting(function), rounds=rounds, warmup_rounds=WARM_UP)
        if self._device == "cuda":
            self._benchmark.extra_info["device_seconds"] = device_seconds(function)

    def _waiting(self, function: Callable[[], object]) -> Callable[[], object]:
        if self._device == "cpu":
            return function

        def run() -> None:
            function()
            torch.cuda.synchronize()

        return run


def device_seconds(function: Callable[[], object], replays: int = REPLAYS) -> float | None:
    """Seconds of one call in a CUDA graph that is replayed on the current stream; None for calls that wait.

    The current stream must not be the default one: autograd runs a gradient on the stream of its forward pass, and the
    default stream cannot be captured.
    """
    if waits_for_the_device(function):
        return None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        function()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    start.record()
    for _ in range(replays):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / replays


def waits_for_the_device(function: Callable[[], object]) -> bool:
    """Whether a call synchronizes the host with the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        function()
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
    return False
