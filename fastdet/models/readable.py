"""Where the host may look at values without waiting for a device."""

import torch
from torch import Tensor


def is_readable(values: Tensor) -> bool:
    """Whether reading the values costs nothing: a plain CPU tensor, neither fake nor traced."""
    return type(values) is Tensor and values.device.type == "cpu" and not torch.compiler.is_compiling()
