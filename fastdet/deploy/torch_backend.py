"""The `torch` backend: a detector's program with fastdet's own kernels, run by torch without the detector's code.

The program is what `torch.export` traces of `ExportModule`, with batch normalisation folded into the convolutions. On a
GPU each batch size is captured as a CUDA graph.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from fastdet.deploy.graph import OUTPUTS, ExportModule, GraphOptions, export_program
from fastdet.deploy.metadata import KEY, Metadata
from fastdet.deploy.precision import lowered
from fastdet.deploy.slots import Launch, SlotSession
from fastdet.models.readable import keeping_kernels
from fastdet.utils.errors import CheckpointError


def export_torch(detector: nn.Module, options: GraphOptions, precision: str = "fp32") -> torch.export.ExportedProgram:
    """The program of a detector in evaluation mode on the CPU; outputs as of `ExportModule`.

    Args:
        precision: of the network: fp32, fp16 or bf16; boxes, scores and suppression are float32.

    Raises:
        UnsupportedConfig: a part of the detector cannot be exported.
        FastdetError: a shape that the detector does not take.
    """
    with keeping_kernels():
        program = export_program(ExportModule(lowered(detector, precision), options))
    fold_batch_norm(program)
    return program


def fold_batch_norm(program: torch.export.ExportedProgram) -> int:
    """Puts batch normalisation into the convolution before it, in place; how many there were.

    `w' = w * gamma / sqrt(var + eps)`, `b' = (b - mean) * gamma / sqrt(var + eps) + beta`, computed in float64. The
    new bias takes the place of beta. A convolution whose weights or result others use too stays as it is.
    """
    signature, state, graph = program.graph_signature, program.state_dict, program.graph
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    folded = 0
    for norm in [n for n in graph.nodes if n.target is torch.ops.aten.batch_norm.default]:
        conv, gamma, beta, mean, var, training, _, eps, _ = norm.args
        if training or conv.target is not torch.ops.aten.conv2d.default:
            continue
        weight, bias = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
        known = all(node is None or node.name in names for node in (weight, bias, gamma, beta, mean, var))
        alone = all(node is not None and len(node.users) == 1 for node in (conv, weight, beta))
        if not known or not alone or any(node is None for node in (gamma, mean, var)):
            continue
        scale, shift, centre, spread = (state[names[node.name]].double() for node in (gamma, beta, mean, var))
        factor = scale * (spread + eps).rsqrt()
        old_bias = 0.0 if bias is None else state[names[bias.name]].double()
        shift = shift + (old_bias - centre) * factor
        _put(state, names[weight.name], state[names[weight.name]].double() * factor[:, None, None, None])
        _put(state, names[beta.name], shift)
        conv.args = (conv.args[0], weight, beta, *conv.args[3:])
        norm.replace_all_uses_with(conv)
        graph.erase_node(norm)
        folded += 1
    program.graph_module.recompile()
    return folded


def _put(state: dict[str, Any], name: str, value: Tensor) -> None:
    """Gives a weight another value of the same type, on its own: the detector keeps the old one."""
    old = state[name]
    new = torch.empty_like(old, requires_grad=False).copy_(value)
    state[name] = nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new


def serialise(program: torch.export.ExportedProgram, metadata: Metadata) -> bytes:
    """The file of a program."""
    for values in (program.state_dict, program.constants):
        for name, value in values.items():  # torch warns of tensors that are a part of their memory
            if isinstance(value, Tensor) and value.untyped_storage().nbytes() != value.numel() * value.element_size():
                values[name] = value.clone()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Weights with channels last are whole, but torch takes contiguous ones alone for it.
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(program, buffer, extra_files={KEY: metadata.to_json()})
    return buffer.getvalue()


def read_program(file: str) -> tuple[torch.export.ExportedProgram, Metadata]:
    """What `serialise` wrote. The file is a program: load none that you do not trust.

    Raises:
        CheckpointError: the file is damaged, or was not written by fastdet.
    """
    extra = {KEY: ""}
    try:
        with open(file, "rb") as stream, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            program = torch.export.load(stream, extra_files=extra)
    except Exception as problem:  # zip, JSON, pickle and torch have errors of their own
        raise CheckpointError(f"{file} is damaged, or no program of torch {torch.__version__}: {problem}") from problem
    text = extra[KEY]
    if not text:
        raise CheckpointError(f"{file} is not an export of fastdet: make one with `python -m fastdet.export CFG CKPT`")
    return program, Metadata.from_json(text if isinstance(text, str) else bytes(text).decode(), file)


def torch_session(
    program: torch.export.ExportedProgram, metadata: Metadata, device: torch.device, *, capture: bool = True
) -> SlotSession:
    """Runs a program on a device; every result is the detector's own, so `exact` is 1."""
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    module = program.module(check_guards=False)
    number = len(program.graph_signature.user_outputs)

    def prepare(images: Tensor, sizes: Tensor) -> Launch:
        inputs = (images,) if metadata.whole_images else (images, sizes)
        return _call(module, inputs)

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    name = f"torch {torch.__version__} on {where}"
    return SlotSession(name, prepare, OUTPUTS[:number], device, capture=capture, fixed={"exact": 1})


def _call(module: Callable[..., Any], inputs: Sequence[Tensor]) -> Launch:
    def launch() -> Sequence[Tensor]:
        return tuple(module(*inputs))

    return launch
