"""A model repository for Triton Inference Server: the exported file, its configuration, the class names."""

import shutil
from pathlib import Path

from onnx import ModelProto, TensorProto

from fastdet.deploy.metadata import Metadata
from fastdet.utils.errors import FastdetError
from fastdet.utils.files import write_text

PLATFORMS = {".onnx": ("onnxruntime_onnx", "model.onnx"), ".engine": ("tensorrt_plan", "model.plan")}
TYPES = {TensorProto.FLOAT: "TYPE_FP32", TensorProto.INT32: "TYPE_INT32", TensorProto.INT64: "TYPE_INT64"}

Outputs = dict[str, tuple[str, tuple[int, ...]]]
"""Triton's type and the shape without the batch, by name."""


def outputs_of(model: ModelProto) -> Outputs:
    """The outputs of a model."""
    return {
        value.name: (
            TYPES[value.type.tensor_type.elem_type],
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]),
        )
        for value in model.graph.output
    }


def write_repository(
    folder: Path, file: Path, outputs: Outputs, metadata: Metadata, *, name: str, max_batch: int
) -> Path:
    """Writes FOLDER/NAME with config.pbtxt, labels.txt and 1/model.onnx or 1/model.plan; returns that folder.

    Args:
        file: what was exported, .onnx or .engine.
        max_batch: the most requests that the server joins; an engine's profile must hold it.

    Raises:
        FastdetError: another kind of file.
    """
    if file.suffix not in PLATFORMS:
        raise FastdetError(f"--triton: {file.name} must be one of {', '.join(PLATFORMS)}")
    platform, inside = PLATFORMS[file.suffix]
    target = folder / name
    (target / "1").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target / "1" / inside)
    weights = file.with_name(f"{file.name}.data")
    if weights.exists():
        shutil.copyfile(weights, target / "1" / weights.name)
    write_text(target / "labels.txt", "".join(f"{label}\n" for label in metadata.classes))
    write_text(target / "config.pbtxt", _config(platform, inside, outputs, metadata, name, max_batch))
    return target


def _config(platform: str, inside: str, outputs: Outputs, metadata: Metadata, name: str, max_batch: int) -> str:
    sides = zip(metadata.shape, metadata.least_shape or metadata.shape, strict=True)
    height, width = (side if side == least else -1 for side, least in sides)
    inputs = [_tensor("images", "TYPE_UINT8", metadata.image_shape(height, width))]
    if not metadata.whole_images:
        inputs.append(_tensor("sizes", "TYPE_INT32", (2,)))
    results = [_tensor(key, kind, shape) for key, (kind, shape) in outputs.items()]
    lines = [
        f'name: "{name}"',
        f'platform: "{platform}"',
        f'default_model_filename: "{inside}"',
        f"max_batch_size: {max_batch}",
        f"input [\n{_joined(inputs)}\n]",
        f"output [\n{_joined(results)}\n]",
        "dynamic_batching { max_queue_delay_microseconds: 1000 }",
    ]
    if platform == "tensorrt_plan":
        lines.append("optimization { cuda { graphs: true } }")
    return "\n".join(lines) + "\n"


def _joined(entries: list[str]) -> str:
    return ",\n".join(entries)


def _tensor(name: str, kind: str, shape: tuple[int, ...]) -> str:
    """One value an image is a vector of one for Triton, which the server reshapes."""
    parts = [f'name: "{name}"', f"data_type: {kind}", f"dims: [{', '.join(map(str, shape or (1,)))}]"]
    if not shape:
        parts.append("reshape { shape: [] }")
    return f"  {{ {', '.join(parts)} }}"
