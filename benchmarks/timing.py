"""One way to time every row: warm-up, several rounds, the minimum as the figure to compare."""

import time
from collections.abc import Callable
from typing import Any

import torch

WARM_UP = 2
ROUNDS = 7


class Timing:
    """Runs a function of no arguments under pytest-benchmark.

    On the CPU the clock is the thread's own time, which other programs on the machine do not lengthen; that needs one
    thread. On a GPU the host waits for the device after every call.
    """

    def __init__(self, benchmark: Any, device: str) -> None:
        self._benchmark = benchmark
        self._device = device

    def __call__(self, group: str, row: str, function: Callable[[], object], rounds: int = ROUNDS) -> None:
        """Times a row.

        Args:
            group: "op, workload, dtype": what the rows of a group share.
            row: The implementation.
            function: What is timed.
            rounds: How often it is timed.
        """
        self._benchmark.group = group
        self._benchmark.extra_info["row"] = row
        if self._device == "cpu" and torch.get_num_threads() == 1:
            self._benchmark._timer = time.thread_time
        self._benchmark.pedantic(self._waiting(function), rounds=rounds, warmup_rounds=WARM_UP)

    def _waiting(self, function: Callable[[], object]) -> Callable[[], object]:
        if self._device == "cpu":
            return function

        def run() -> None:
            function()
            torch.cuda.synchronize()

        return run
