"""The trained weights of a YOLOX-Nano in ONNX, as a state dict of ours.

The file's convolutions hold their batch norms folded in. They are matched by their order in the graph, which is that
of Megvii's YOLOX; the batch norms become the identity, whose bias is the folded one.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

EPSILON = 0.001


def state_dict(file: Path, model: nn.Module) -> dict[str, Tensor]:
    """The file's weights under the model's names."""
    graph = onnx.load(file).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    folded = [tuple(node.input[1:3]) for node in graph.node if node.op_type == "Conv"]
    state = dict(model.state_dict())
    names = list(_in_graph_order(model))
    assert len(names) == len(folded)
    for (conv, norm), (weight, bias) in zip(names, folded, strict=True):
        assert state[f"{conv}.weight"].shape == arrays[weight].shape, (conv, weight)
        state[f"{conv}.weight"] = torch.tensor(arrays[weight])
        state[f"{norm or conv}.bias"] = torch.tensor(arrays[bias])
        if norm:
            state[f"{norm}.weight"] = torch.ones_like(state[f"{norm}.weight"])
            state[f"{norm}.running_mean"] = torch.zeros_like(state[f"{norm}.running_mean"])
            state[f"{norm}.running_var"] = torch.full_like(state[f"{norm}.running_var"], 1 - EPSILON)
    return state


def _in_graph_order(model: nn.Module) -> Iterator[tuple[str, str | None]]:
    """Names of convolutions and of the batch norms behind them."""
    convs = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name in sorted(convs, key=lambda name: (_place(name), convs.index(name))):
        norm = name.removesuffix("conv") + "bn"
        yield name, norm if norm in norms else None


NECK = (
    "reduce_layers.0", "top_down_blocks.0", "reduce_layers.1", "top_down_blocks.1",
    "downsamples.0", "bottom_up_blocks.0", "downsamples.1", "bottom_up_blocks.1",
)  # fmt: skip
HEAD = ("multi_level_cls_convs", "multi_level_conv_cls", "multi_level_reg_convs", "multi_level_conv_reg",
        "multi_level_conv_obj")  # fmt: skip


def _place(name: str) -> tuple[int, ...]:
    """Where a convolution stands in the graph: part, place in the part, and whether it ends a partial block."""
    last = int(".final_conv." in name)
    part, rest = name.split(".", 1)
    if part == "backbone":
        stage = rest.split(".")
        return (0, 0 if stage[0] == "stem" else int(stage[0].removeprefix("stage")), 0, _layer(stage), last)
    if part == "neck" and not rest.startswith("out_convs"):
        return (1, next(i for i, prefix in enumerate(NECK) if rest.startswith(prefix)), 0, 0, last)
    if part == "neck":
        return (2, int(rest.split(".")[1]), 0, 0, 0)
    kind, level = rest.split(".")[:2]
    return (2, int(level), 1 + HEAD.index(kind), 0, 0)


def _layer(stage: list[str]) -> int:
    return int(stage[1]) if stage[1].isdigit() else 0
