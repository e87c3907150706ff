"""Plugins described to `tensorrt.plugin`, which puts their kernels into engines ahead of time.

Every plugin is one of its own, with its settings compiled in, so that none has attributes: TensorRT would keep none.
"""

import importlib
import inspect
from collections.abc import Sequence
from types import GenericAlias
from typing import Any

import torch

from fastdet.deploy.plugins.compiling import OLDEST_ARCHITECTURE
from fastdet.deploy.plugins.kernels import FEATURE, Plugin, name_of, ptx_of
from fastdet.deploy.translate import DOMAIN
from fastdet.utils.errors import EnvironmentProblem

_TYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16", "int32": "INT32"}
"""Names of TensorRT's types."""


def architecture_here() -> str:
    """The GPU that engines are built for, which is this machine's."""
    if not torch.cuda.is_available():
        return OLDEST_ARCHITECTURE
    major, minor = torch.cuda.get_device_capability()
    return f"compute_{major}{minor}"


def register(library: Any, plugin: Plugin, architecture: str) -> None:
    """Makes a plugin known to the parser, as `fastdet::name_of(plugin)`; once in a process.

    Args:
        library: the module `tensorrt`.
        architecture: that the PTX is for.

    Raises:
        EnvironmentProblem: the library has no ahead-of-time plugins.
    """
    trtp = _plugin_module(library)
    name = name_of(plugin)
    if hasattr(getattr(trtp.op, DOMAIN, None), name):
        return

    def describe(*inputs: Any) -> Any:
        feature = next(
            (d.dtype for d, kind in zip(inputs, plugin.inputs.values(), strict=True) if kind == FEATURE), None
        )
        types = [feature if kind == FEATURE else _type(library, kind) for kind in plugin.outputs.values()]
        shapes = plugin.output_shapes([desc.shape_expr for desc in inputs])
        described = [trtp.from_shape_expr(tuple(shape), kind) for shape, kind in zip(shapes, types, strict=True)]
        return tuple(described) if len(described) > 1 else described[0]

    def implement(*arguments: Any) -> tuple[str, str, Any, Any]:
        inputs = arguments[: len(plugin.inputs)]  # behind them are the outputs and the tactic
        feature = _check_types(library, plugin, inputs)
        launch = plugin.launch([desc.shape_expr for desc in inputs])
        call = trtp.KernelLaunchParams()
        call.grid_x, call.grid_y, call.grid_z = launch.grid
        call.block_x = launch.threads
        numbers = trtp.SymIntExprs(len(launch.numbers))
        for i, number in enumerate(launch.numbers):
            numbers[i] = trtp.SymInt32(number)
        return plugin.entry, ptx_of(plugin, feature, architecture), call, numbers

    tensors = dict.fromkeys(plugin.inputs, trtp.TensorDesc)
    several = GenericAlias(tuple, (trtp.TensorDesc,) * len(plugin.outputs))
    _annotate(describe, tensors, several if len(plugin.outputs) > 1 else trtp.TensorDesc)
    kernel = GenericAlias(tuple, (str, str, trtp.KernelLaunchParams, trtp.SymIntExprs))
    _annotate(implement, {**tensors, "outputs": several, "tactic": int}, kernel)
    trtp.register(f"{DOMAIN}::{name}")(describe)
    trtp.aot_impl(f"{DOMAIN}::{name}")(implement)


def _plugin_module(library: Any) -> Any:
    """`tensorrt.plugin`."""
    try:
        trtp = importlib.import_module(f"{library.__name__}.plugin")
    except ImportError as problem:
        raise EnvironmentProblem(f"--plugins needs {library.__name__}.plugin: {problem}") from problem
    if not hasattr(trtp, "aot_impl"):
        raise EnvironmentProblem(f"--plugins: {library.__name__} {library.__version__} has no ahead-of-time plugins")
    return trtp


def _annotate(function: Any, parameters: dict[str, Any], result: Any) -> None:
    """Gives a function of any arguments the signature that the library reads."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [inspect.Parameter(name, kind, annotation=annotation) for name, annotation in parameters.items()]
    function.__signature__ = inspect.Signature(named, return_annotation=result)


def _type(library: Any, name: str) -> Any:
    return getattr(library.DataType, _TYPES[name])


def _check_types(library: Any, plugin: Plugin, inputs: Sequence[Any]) -> str | None:
    """The type of the features, None where there are none.

    Raises:
        ValueError: an input is of another type than the kernel reads.
    """
    names = {_type(library, name): name for name in _TYPES}
    feature = None
    for desc, (tensor, wanted) in zip(inputs, plugin.inputs.items(), strict=True):
        found = names.get(desc.dtype, str(desc.dtype))
        if wanted == FEATURE:
            feature = wanted = feature or found
        if found != wanted:
            raise ValueError(f"{plugin.entry}: {tensor} is {found}, and must be {wanted}")
    return feature
