"""What this machine can do at most: bytes from memory and from caches, and floating point operations, a second."""

import time
from collections.abc import Callable
from typing import Any

import torch

MIB = 1 << 20
# Bytes copied: far more than any cache holds, and what a core's or the GPU's second-level cache holds twice.
FAR_BYTES = {"cpu": 256 * MIB, "cuda": 2048 * MIB}
NEAR_BYTES = {"cpu": MIB // 4, "cuda": 12 * MIB}
MATRIX_SIDE = {"cpu": 1024, "cuda": 8192}
TYPES = {
    "cpu": {"fp32": torch.float32},
    "cuda": {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16},
}


def calibrate(device: str) -> dict[str, Any]:
    """Measured rates: "bytes", "cached_bytes" (both read and written ones count) and "flops" by type, a second.

    Matrix products of float32 keep full precision.
    """
    return {
        "bytes": copy_rate(device, FAR_BYTES[device], 1),
        "cached_bytes": copy_rate(device, NEAR_BYTES[device], 200),
        "flops": {name: product_rate(device, dtype) for name, dtype in TYPES[device].items()},
    }


def copy_rate(device: str, size: int, repeats: int) -> float:
    """Bytes read and written a second by copies of `size` bytes."""
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source), device, repeats)


def product_rate(device: str, dtype: torch.dtype) -> float:
    """Floating point operations a second of square matrix products."""
    side = MATRIX_SIDE[device]
    a, b = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device, 3)


def seconds_of(function: Callable[[], object], device: str, repeats: int, rounds: int = 7) -> float:
    """The fastest of some rounds, by the clock of benchmarks.timing."""
    clock = time.thread_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    best = float("inf")
    for _ in range(rounds):
        wait()
        start = clock()
        for _ in range(repeats):
            function()
        wait()
        best = min(best, (clock() - start) / repeats)
    return best
