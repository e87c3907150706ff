"""What the models ask about the run that they are in: whether the host may look at values, whether ops need bodies."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor


def is_readable(values: Tensor) -> bool:
    """Whether reading the values costs nothing: a plain CPU tensor, neither fake nor traced."""
    return type(values) is Tensor and values.device.type == "cpu" and not torch.compiler.is_compiling()


def is_open(size: int) -> bool:
    """Whether a size is known only when the graph that is traced runs."""
    return isinstance(size, torch.SymInt)


_KERNELS_STAY = ContextVar("fastdet_kernels_stay", default=False)


@contextmanager
def keeping_kernels() -> Iterator[None]:
    """Inside the block, graphs are traced for a runtime that has fastdet's kernels."""
    token = _KERNELS_STAY.set(True)
    try:
        yield
    finally:
        _KERNELS_STAY.reset(token)


def needs_bodies() -> bool:
    """Whether a graph is traced for runtimes without fastdet's kernels, so that each op needs a body for it."""
    return torch.compiler.is_exporting() and not _KERNELS_STAY.get()
