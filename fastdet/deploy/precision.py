"""In which precision a detector's network computes in its graph; what follows the network stays float32."""

import copy
from typing import Any

import torch
from torch import nn

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
NETWORK = ("backbone", "neck", "bbox_head", "rpn_head", "roi_head")
"""The parts of a detector whose weights become half. Pixels are normalised, boxes are decoded, and scores are made and
compared in float32."""
KEPT = ("integral", "loss_cls", "loss_bbox")
"""What a head holds for the decoding and the losses, which are no part of the network."""


def lowered(detector: nn.Module, precision: str) -> nn.Module:
    """A copy of a detector whose network computes in half precision; the detector itself for float32 and int8.

    An int8 graph is made from the float32 one, see `quantise`.
    """
    dtype = HALF.get(precision)
    if dtype is None:
        return detector
    copied = copy.deepcopy(detector)
    for name in NETWORK:
        part = getattr(copied, name, None)
        if isinstance(part, nn.Module):
            _halve(part, dtype)
    return copied


def _halve(part: nn.Module, dtype: torch.dtype) -> None:
    """Makes a part's layers half, which then take inputs of any precision, as they do under autocast."""

    def cast(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        given = args[0] if args[0].dtype == dtype else args[0].to(dtype)
        return (given, *args[1:])  # what follows are offsets and masks of deformable convolutions

    for name, module in part.named_modules():
        if name.split(".")[0] in KEPT:
            continue
        for values in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if values.is_floating_point():
                values.data = values.data.to(dtype)
        if "weight" in module._parameters:
            module.register_forward_pre_hook(cast)
