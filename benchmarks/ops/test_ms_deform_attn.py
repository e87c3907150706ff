"""Deformable attention of an encoder and of a decoder against its formulation with grid_sample."""

import pytest
import torch
from torch import Tensor

from benchmarks.peers import attention_by_grid_sample
from benchmarks.timing import Timing
from benchmarks.work import attention_work
from fastdet import ops

ROWS = {"torch, grid_sample": attention_by_grid_sample, "fastdet": ops.ms_deform_attn}
# An image of 800 x 1333 pixels at strides 8 to 64; 8 heads of 32 channels, 4 points.
SHAPES = ((100, 167), (50, 84), (25, 42), (13, 21))
HEADS, CHANNELS, POINTS = 8, 32, 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def arguments(queries: str, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """An encoder's queries are the cells in order, a decoder's lie anywhere; both look a few cells around them."""
    generator = torch.Generator().manual_seed(0)
    if queries == "encoder":
        rows_and_columns = [torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij") for h, w in SHAPES]
        centres = [torch.stack([x, y], dim=-1).flatten(0, 1) for y, x in rows_and_columns]
        reference = torch.cat(centres)
    else:
        reference = torch.rand(900, 2, generator=generator)
    size = torch.tensor([[width, height] for height, width in SHAPES])[:, None]
    offsets = 2 * torch.randn(len(reference), HEADS, len(SHAPES), POINTS, 2, generator=generator)
    locations = reference[None, :, None, None, None] + offsets[None] / size
    weights = torch.rand(locations.shape[:-1], generator=generator)
    weights = weights / weights.sum((-1, -2), keepdim=True)
    value = torch.randn(1, sum(h * w for h, w in SHAPES), HEADS, CHANNELS, generator=generator)
    return value.to(device, dtype), locations.to(device), weights.to(device)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries", ["encoder", "decoder"])
def test_forward(timing: Timing, device: str, queries: str, dtype: str, row: str) -> None:
    value, locations, weights = arguments(queries, DTYPES[dtype], device)
    work = attention_work(value, locations, weights, False)
    if row != "fastdet":  # grid_sample wants one type for all
        locations, weights = locations.to(value.dtype), weights.to(value.dtype)
    group = f"ms_deform_attn forward, {queries}, {locations.shape[1]} queries, {dtype}"
    timing(group, row, lambda: ROWS[row](value, SHAPES, locations, weights), rounds=3, work=work)


@pytest.mark.parametrize("row", ROWS)
def test_forward_and_backward(timing: Timing, device: str, row: str) -> None:
    tensors = [tensor.requires_grad_() for tensor in arguments("encoder", torch.float32, device)]

    def step() -> None:
        output = ROWS[row](tensors[0], SHAPES, *tensors[1:])
        torch.autograd.grad(output.sum(), tensors)

    group = f"ms_deform_attn forward and backward, encoder, {tensors[1].shape[1]} queries, fp32"
    timing(group, row, step, rounds=3, work=attention_work(*tensors, True))
