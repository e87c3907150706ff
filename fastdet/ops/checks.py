"""Argument checks of the ops, with one form of message: name, what is wanted, what was given."""

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, *wanted: int | None) -> None:
    """Raises ValueError unless the tensor has these sizes; None stands for any."""
    fits = tensor.dim() == len(wanted) and all(w is None or tensor.shape[d] == w for d, w in enumerate(wanted))
    if not fits:
        shape = ", ".join("*" if w is None else str(w) for w in wanted)
        raise ValueError(f"`{name}` must have shape [{shape}], got {list(tensor.shape)}")


def check_dtype(name: str, tensor: Tensor, *wanted: torch.dtype) -> None:
    """Raises ValueError unless the tensor has one of these dtypes."""
    if tensor.dtype not in wanted:
        names = " or ".join(str(dtype) for dtype in wanted)
        raise ValueError(f"`{name}` must have dtype {names}, got {tensor.dtype}")


def as_coordinates(name: str, tensor: Tensor) -> Tensor:
    """The tensor as float32, the type of all coordinates and scores; integers are refused."""
    if not tensor.is_floating_point():
        raise ValueError(f"`{name}` must be floating point, got {tensor.dtype}")
    return tensor.to(torch.float32)


def check_iou_threshold(iou_threshold: float) -> None:
    """Raises ValueError unless the threshold lies in [0, 1]."""
    if not 0.0 <= iou_threshold <= 1.0:
        raise ValueError(f"`iou_threshold` must lie in [0, 1], got {iou_threshold}")
