"""An ONNX file of ours as an engine: one builder for TensorRT and TensorRT-RTX, whose differences are a table.

Engines are strongly typed: the graph alone says what is computed in which precision.
"""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from onnx import ModelProto

from fastdet.deploy.metadata import Metadata
from fastdet.deploy.plugins.registering import architecture_here, register
from fastdet.deploy.plugins.rewriting import Rewritten, parsed_source
from fastdet.utils.errors import CheckpointError, EnvironmentProblem, FastdetError
from fastdet.utils.files import write_bytes


class Backend(NamedTuple):
    """What tells the two libraries apart."""

    module: str
    package: str  # to install
    oldest: tuple[int, int]
    takes_capability: bool  # whether an engine is built for a named GPU, else for the one that builds
    needs_gpu: bool  # to build
    has_plugins: bool


BACKENDS = {
    "tensorrt": Backend("tensorrt", "tensorrt", (10, 9), takes_capability=False, needs_gpu=True, has_plugins=True),
    "tensorrt_rtx": Backend(
        "tensorrt_rtx", "tensorrt-rtx", (1, 5), takes_capability=True, needs_gpu=False, has_plugins=False
    ),
}


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What an engine is built for.

    Args:
        backend: a key of BACKENDS.
        batch: least, usual and greatest number of images.
        capability: "SM89" and so on, of TensorRT-RTX alone; None: all GPUs that it knows, Ampere and later.
        timing_cache: a file that keeps measurements between builds.
        plugins: whether fastdet's kernels stand for the function bodies that they compute.
    """

    backend: str
    batch: tuple[int, int, int] = (1, 1, 8)
    capability: str | None = None
    timing_cache: str | None = None
    plugins: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise FastdetError(f"--batch {self.batch}: give the least, the usual and the greatest number, in order")
        if self.capability is not None and not BACKENDS[self.backend].takes_capability:
            raise FastdetError(f"--capability: {self.backend} builds for the GPU of this machine; leave the option out")
        if self.plugins and not BACKENDS[self.backend].has_plugins:
            raise FastdetError(f"--plugins: {self.backend} takes none; leave the option out, or use --backend tensorrt")


def import_library(backend: str) -> Any:
    """The Python module of a backend.

    Raises:
        EnvironmentProblem: it is missing or too old.
    """
    facts = BACKENDS[backend]
    try:
        library = importlib.import_module(facts.module)
    except ImportError as problem:
        needed = f"--backend {backend} needs {facts.package} ({problem}): pip install {facts.package}"
        raise EnvironmentProblem(needed) from problem
    version = tuple(int(part) for part in library.__version__.split(".")[:2])
    if version < facts.oldest:
        oldest = ".".join(map(str, facts.oldest))
        raise EnvironmentProblem(f"{facts.package} {library.__version__} is too old: fastdet needs {oldest} or later")
    return library


def build_engine(
    model: ModelProto | str, metadata: Metadata, options: EngineOptions, plugins: Rewritten | None = None
) -> memoryview:
    """The serialised engine of a model, or of the file that holds it; not copied, since it may be large.

    Args:
        plugins: of the model, where the engine is to have them.

    Raises:
        EnvironmentProblem: the library is missing or too old, or the machine has no GPU and it needs one.
        FastdetError: the library refuses the graph; the message has its reasons.
    """
    library = import_library(options.backend)
    messages: list[str] = []
    try:
        builder = library.Builder(logger(library, messages))
    except TypeError as problem:  # what the bindings raise when the library has no device
        raise EnvironmentProblem(_without_gpu(options, messages)) from problem
    with parsed_source(model, plugins) as source:
        for plugin in () if plugins is None else plugins.plugins:
            register(library, plugin, architecture_here())
        network, _held = _network(library, builder, source, options.backend, messages)
    config = builder.create_builder_config()
    config.clear_flag(library.BuilderFlag.TF32)
    if options.capability is not None:
        _set_capability(library, config, options.capability)
    config.add_optimization_profile(_profile(builder, metadata, options.batch))
    cache = _timing_cache(config, options.timing_cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        reasons = "; ".join(messages[-3:])
        raise FastdetError(f"{options.backend} {library.__version__} cannot build the engine: {reasons}")
    if cache is not None and options.timing_cache is not None:
        write_bytes(options.timing_cache, bytes(cache.serialize()))
    return memoryview(engine)


def tensors_of(model: ModelProto | str, backend: str) -> dict[str, tuple[str, tuple[int, ...], str]]:
    """Name -> (input or output, shape, type) of what a backend's parser makes of a model.

    Raises:
        FastdetError: the parser refuses the model.
    """
    library = import_library(backend)
    builder = library.Builder(logger(library, []))
    network, _held = _network(library, builder, model, backend, [])
    inputs = [("input", network.get_input(i)) for i in range(network.num_inputs)]
    outputs = [("output", network.get_output(i)) for i in range(network.num_outputs)]
    return {t.name: (kind, tuple(t.shape), str(t.dtype).removeprefix("DataType.")) for kind, t in (*inputs, *outputs)}


def _network(library: Any, builder: Any, model: ModelProto | str, backend: str, messages: list[str]) -> tuple[Any, Any]:
    """The network of a model, and the parser, which holds the network's weights.

    Raises:
        FastdetError: the parser refuses the model.
    """
    network = builder.create_network(_network_flags(library))
    parser = library.OnnxParser(network, logger(library, messages))
    parsed = parser.parse_from_file(model) if isinstance(model, str) else parser.parse(model.SerializeToString())
    if not parsed:
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)) or "; ".join(messages[-1:])
        raise FastdetError(f"{backend} {library.__version__} cannot read the graph: {reasons}")
    return network, parser


def logger(library: Any, messages: list[str]) -> Any:
    """A logger that keeps errors for the exception's message."""

    class Logger(library.ILogger):
        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= library.ILogger.ERROR:
                messages.append(message)

    return Logger()


def _network_flags(library: Any) -> int:
    """TensorRT 10 has to be told to be strongly typed; later ones know nothing else."""
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _set_capability(library: Any, config: Any, name: str) -> None:
    known = sorted((key for key in vars(library.ComputeCapability) if key.startswith("SM")), key=lambda k: int(k[2:]))
    if name not in known:
        raise FastdetError(f"--capability {name!r} is none that this library builds for: {', '.join(known)}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(library.ComputeCapability, name), 0)


def _profile(builder: Any, metadata: Metadata, batch: tuple[int, int, int]) -> Any:
    shapes = [shape or metadata.shape for shape in (metadata.least_shape, metadata.usual_shape, metadata.shape)]
    profile = builder.create_optimization_profile()
    images = ((number, *metadata.image_shape(*shape)) for number, shape in zip(batch, shapes, strict=True))
    profile.set_shape("images", *images)
    if not metadata.whole_images:
        profile.set_shape("sizes", *((number, 2) for number in batch))
    return profile


def _timing_cache(config: Any, file: str | None) -> Any:
    """The cache that the builder uses; None where there is none."""
    if file is None:
        return None
    if not hasattr(config, "create_timing_cache"):
        raise FastdetError("--timing-cache: this library measures nothing when it builds; leave the option out")
    content = Path(file).read_bytes() if os.path.exists(file) else b""
    cache = config.create_timing_cache(content)
    if cache is None:
        raise CheckpointError(f"{file} is no timing cache of this library: delete it")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _without_gpu(options: EngineOptions, messages: list[str]) -> str:
    said = f" ({messages[-1]})" if messages else ""
    return f"--backend {options.backend} builds on the GPU that the engine is for, and finds none here{said}"
