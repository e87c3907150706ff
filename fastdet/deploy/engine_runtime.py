"""Engines of TensorRT and TensorRT-RTX on a GPU: one code path, whose differences `Backend` lists.

None has run on a GPU yet: the calls are tested against a library that is made up and checks their order.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastdet.deploy.graph import OUTPUTS
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.slots import Launch, SlotSession
from fastdet.deploy.tensorrt import import_library, logger
from fastdet.utils.errors import CheckpointError, EnvironmentProblem

DTYPES = {"FLOAT": torch.float32, "INT32": torch.int32}


def read_record(file: str) -> tuple[Metadata, dict[str, Any]]:
    """What the JSON beside an engine says: of the graph, and of the engine.

    Raises:
        CheckpointError: there is none, or it is another engine's.
    """
    beside = Path(file).with_suffix(".json")
    try:
        record = json.loads(beside.read_text())
        facts = record["engine"]
        metadata = Metadata.from_json(json.dumps(record["metadata"]), str(beside))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise CheckpointError(
            f"{file}: {beside.name}, which `python -m fastdet.export` writes beside an engine, is missing or holds no "
            f"record of one ({type(problem).__name__}: {problem}); an engine of another origin cannot be loaded"
        ) from problem
    found = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    if facts.get("sha256") != found:
        raise CheckpointError(f"{file} is not the engine that {beside.name} tells of: export it again")
    return metadata, facts


class Engine:
    """A deserialised engine.

    Args:
        file: its name.
        facts: of the engine, from its record.
        where: the GPU's name, for messages.

    Attributes:
        name: of library and GPU.
        outputs: their types by name, in the order of OUTPUTS, then `exact`.
        batches: least and greatest number of images of the profile.

    Raises:
        EnvironmentProblem: the library is missing or too old.
        CheckpointError: the engine is of another version, or for another GPU; or its tensors are not the graph's.
    """

    def __init__(self, file: str, metadata: Metadata, facts: Mapping[str, Any], where: str) -> None:
        built_with = str(facts["library"])
        backend = built_with.split(" ")[0]
        self._library = import_library(backend)
        self._whole_images = metadata.whole_images
        messages: list[str] = []
        self.name = f"{backend} {self._library.__version__} on {where}"
        self._logger = logger(self._library, messages)
        self._runtime = self._library.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(Path(file).read_bytes())
        if self._engine is None:
            raise CheckpointError(
                f"{file} was built with {built_with} for {facts.get('gpu') or facts.get('capability')}, and does not "
                f"load with {self.name}: {'; '.join(messages[-2:])}. Build it again with `python -m fastdet.export`"
            )
        self.outputs = self._checked(file)
        shapes = self._engine.get_tensor_profile_shape("images", 0)
        self.batches = int(shapes[0][0]), int(shapes[2][0])

    def prepare(self, images: Tensor, sizes: Tensor) -> Launch:
        """A launch for these buffers, in a context of its own: what a CUDA graph has captured of it must not change."""
        given = {"images": images} if self._whole_images else {"images": images, "sizes": sizes}
        return _Run(self, self._engine.create_execution_context(), given)

    def _checked(self, file: str) -> dict[str, torch.dtype]:
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = {name for name in names if engine.get_tensor_mode(name) == self._library.TensorIOMode.INPUT}
        expected = {"images"} if self._whole_images else {"images", "sizes"}
        found = [name for name in (*OUTPUTS, "exact") if name in names and name not in inputs]
        types = {name: str(engine.get_tensor_dtype(name)).rsplit(".", 1)[-1] for name in found}
        complete = len(found) == len(names) - len(inputs) and {"boxes", "exact"} <= set(found)
        if inputs != expected or not complete or not set(types.values()) <= set(DTYPES):
            raise CheckpointError(f"{file} has the tensors {', '.join(names)}: it is no engine of fastdet's")
        return {name: DTYPES[kind] for name, kind in types.items()}


class _Run:
    """An execution context with its buffers; a call enqueues the work and gives the outputs."""

    def __init__(self, engine: Engine, context: Any, given: Mapping[str, Tensor]) -> None:
        if context is None:
            raise EnvironmentProblem("the engine's memory does not fit on the GPU: smaller batches need less")
        self._engine = engine  # which the context needs for as long as it lives
        self._context = context
        self._given = dict(given)
        self._device = next(iter(given.values())).device
        for name, values in given.items():
            _agreed(context.set_input_shape(name, tuple(values.shape)), f"the shape {tuple(values.shape)} of {name}")
        self._results = {
            name: torch.zeros(tuple(context.get_tensor_shape(name)), dtype=dtype, device=self._device)
            for name, dtype in engine.outputs.items()
        }
        for name, values in (*self._given.items(), *self._results.items()):
            _agreed(context.set_tensor_address(name, values.data_ptr()), f"the address of {name}")

    def __call__(self) -> Sequence[Tensor]:
        stream = torch.cuda.current_stream(self._device)
        _agreed(self._context.execute_async_v3(stream.cuda_stream), "the run")
        return list(self._results.values())


def _agreed(answer: bool, what: str) -> None:
    if not answer:
        raise EnvironmentProblem(f"the engine refuses {what}; its library's log says why")


def engine_session(
    file: str, metadata: Metadata, facts: Mapping[str, Any], device: torch.device, *, capture: bool = True
) -> SlotSession:
    """Runs an engine on a GPU; arguments and errors as of Engine.

    Raises:
        EnvironmentProblem: the device is no GPU.
    """
    if device.type != "cuda":
        raise EnvironmentProblem(
            f"{file}: engines run on a GPU, and none is to be used here; an .onnx file runs without"
        )
    with torch.cuda.device(device):
        engine = Engine(file, metadata, facts, torch.cuda.get_device_name(device))
    return SlotSession(
        engine.name, engine.prepare, list(engine.outputs), device, batches=engine.batches, capture=capture
    )
