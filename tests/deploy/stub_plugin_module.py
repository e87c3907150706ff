"""The part of `tensorrt.plugin` that fastdet uses, with the checks of the real one, and what TensorRT does with it.

Facts of TensorRT 10.9 to 11.4: a description is asked for twice, first with sizes that nobody knows; sizes are
expressions that numbers stand behind, never before; annotations are compulsory in descriptions; attribute names of a
launch are fixed.
"""

import enum
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnx


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3
    BOOL = 4
    BF16 = 7
    INT64 = 8


class SymInt32:
    """A number that may depend on the batch; without one it is fake, and so is all that is computed of it."""

    def __init__(self, value: Any = None) -> None:
        if not (value is None or isinstance(value, (int, SymInt32)) or callable(value)):
            raise TypeError(f"no symbolic number can be made of {value!r}")
        self.evaluate: Callable[[int], int] | None
        if isinstance(value, SymInt32):
            self.evaluate = value.evaluate
        elif isinstance(value, int):
            self.evaluate = lambda batch: value
        else:
            self.evaluate = value

    def _of(self, other: Any, operate: Callable[[int, int], int]) -> "ShapeExpr":
        own, others = self.evaluate, SymInt32(other).evaluate
        if own is None or others is None:
            return ShapeExpr()
        return ShapeExpr(lambda batch: operate(own(batch), others(batch)))

    def __add__(self, other: Any) -> "ShapeExpr":
        return self._of(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> "ShapeExpr":
        return self._of(other, lambda a, b: a - b)

    def __mul__(self, other: Any) -> "ShapeExpr":
        return self._of(other, lambda a, b: a * b)

    def __floordiv__(self, other: Any) -> "ShapeExpr":
        return self._of(other, lambda a, b: a // b)

    def __bool__(self) -> bool:
        raise RuntimeError("Cannot evaluate symbolic expression as boolean.")


class ShapeExpr(SymInt32):
    pass


class ShapeExprs(tuple[ShapeExpr, ...]):
    pass


class SymIntExprs:
    def __init__(self, length: int) -> None:
        self._numbers: list[Any] = [None] * length

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Any:
        return iter(self._numbers)

    def __setitem__(self, index: int, number: Any) -> None:
        if not isinstance(number, SymInt32):
            raise ValueError(f"Value should be int or SymIntExpr. Got '{type(number)}'")
        self._numbers[index] = number


class TensorDesc:
    def __init__(self, shape_expr: ShapeExprs, dtype: DataType) -> None:
        self._shape_expr, self._dtype = shape_expr, dtype

    @property
    def shape_expr(self) -> ShapeExprs:
        return self._shape_expr

    @property
    def dtype(self) -> DataType:
        return self._dtype

    @property
    def shape(self) -> None:
        raise ValueError("TensorDesc has no shape information available at this stage.")


class KernelLaunchParams:
    _NAMES = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared_mem")

    def __init__(self) -> None:
        for name in self._NAMES:
            setattr(self, name, 0 if name == "shared_mem" else 1)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._NAMES:
            raise AttributeError(f"KernelLaunchParams object has no attribute '{name}'")
        self.__dict__[name] = SymInt32(value)


def from_shape_expr(shape_expr: Any, dtype: DataType) -> TensorDesc:
    assert isinstance(shape_expr, tuple)
    assert isinstance(dtype, DataType)
    sizes = []
    for size in shape_expr:
        assert isinstance(size, (int, ShapeExpr))
        sizes.append(size if isinstance(size, ShapeExpr) else ShapeExpr(size))
    return TensorDesc(ShapeExprs(sizes), dtype)


class Registered(NamedTuple):
    describe: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: int


class Built(NamedTuple):
    """What goes into an engine, for one batch."""

    types: list[DataType]
    shapes: list[tuple[int, ...]]
    kernel: str
    ptx: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    numbers: list[int]


class Module(types.ModuleType):
    """`tensorrt.plugin`, and what a builder does with it."""

    def __init__(self) -> None:
        super().__init__("tensorrt.plugin")
        self.op = types.SimpleNamespace()
        self.registry: dict[str, Registered] = {}
        self.kernels: dict[str, Callable[..., Any]] = {}
        self.__dict__.update(
            TensorDesc=TensorDesc, SymInt32=SymInt32, SymIntExprs=SymIntExprs, KernelLaunchParams=KernelLaunchParams,
            from_shape_expr=from_shape_expr,
        )  # fmt: skip

    def register(self, plugin_id: str, lazy_register: bool = False) -> Callable[..., Any]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            namespace, name = plugin_id.split("::")
            assert "." not in plugin_id
            assert namespace not in ("", "trt", "tensorrt", "std")
            known = self.op.__dict__.setdefault(namespace, types.SimpleNamespace())
            if hasattr(known, name):
                raise ValueError(f"'_Op' already has a defintion for '{name}'")
            signature = inspect.signature(function)
            for parameter in signature.parameters.values():
                assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
                assert parameter.default is inspect.Parameter.empty
                assert inspect.isclass(parameter.annotation), "type annotations are compulsory"
                assert issubclass(parameter.annotation, TensorDesc)
            self.registry[plugin_id] = Registered(function, tuple(signature.parameters), _outputs(signature))
            setattr(known, name, object())
            return function

        return decorate

    def aot_impl(self, plugin_id: str) -> Callable[..., Any]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            registered = self.registry[plugin_id]
            signature = inspect.signature(function)
            assert tuple(signature.parameters) == (*registered.inputs, "outputs", "tactic")
            for name, parameter in signature.parameters.items():
                if name == "outputs":
                    assert typing.get_origin(parameter.annotation) is tuple
                    assert all(issubclass(part, TensorDesc) for part in typing.get_args(parameter.annotation))
                elif name == "tactic":
                    assert issubclass(parameter.annotation, int)
                else:
                    assert issubclass(parameter.annotation, TensorDesc)
            assert typing.get_origin(signature.return_annotation) is tuple
            parts = typing.get_args(signature.return_annotation)
            assert parts == (str, str, KernelLaunchParams, SymIntExprs)
            self.kernels[plugin_id] = function
            return function

        return decorate

    def build(self, plugin_id: str, inputs: Sequence[tuple[DataType, Sequence[int | str]]], batch: int) -> Built:
        """Describes and compiles a plugin for inputs of these types and sizes, "batch" among them."""
        registered = self.registry[plugin_id]
        fakes = [TensorDesc(ShapeExprs([ShapeExpr()] * len(sizes)), dtype) for dtype, sizes in inputs]
        types_ = [desc.dtype for desc in _as_tuple(registered.describe(*fakes))]
        given = [TensorDesc(_symbols(sizes), dtype) for dtype, sizes in inputs]
        outputs = _as_tuple(registered.describe(*given))
        assert [desc.dtype for desc in outputs] == types_
        assert len(outputs) == registered.outputs
        kernel, ptx, launch, numbers = self.kernels[plugin_id](*given, outputs, 0)
        assert isinstance(kernel, str)
        assert isinstance(ptx, str)
        assert isinstance(launch, KernelLaunchParams)
        assert isinstance(numbers, SymIntExprs)
        assert all(isinstance(number, SymInt32) for number in numbers)

        def value(number: SymInt32) -> int:
            assert number.evaluate is not None
            return number.evaluate(batch)

        grid, block = ([value(getattr(launch, f"{part}_{axis}")) for axis in "xyz"] for part in ("grid", "block"))
        assert value(launch.shared_mem) == 0  # type: ignore[attr-defined]
        return Built(
            types_, [tuple(map(value, desc.shape_expr)) for desc in outputs], kernel, ptx, tuple(grid), tuple(block),
            [value(number) for number in numbers],
        )  # fmt: skip


def _symbols(sizes: Sequence[int | str]) -> ShapeExprs:
    return ShapeExprs([ShapeExpr(size) if isinstance(size, int) else ShapeExpr(lambda batch: batch) for size in sizes])


def _outputs(signature: inspect.Signature) -> int:
    result = signature.return_annotation
    if typing.get_origin(result) is tuple:
        assert all(issubclass(part, TensorDesc) for part in typing.get_args(result))
        return len(typing.get_args(result))
    assert issubclass(result, TensorDesc)
    return 1


def _as_tuple(described: Any) -> tuple[TensorDesc, ...]:
    return described if isinstance(described, tuple) else (described,)


class Library(types.ModuleType):
    """The module `tensorrt` around it, with a builder whose engine is the list of the plugins that its parser saw."""

    DataType = DataType
    __version__ = "10.13.3"

    def __init__(self, plugins: Module | None = None) -> None:
        super().__init__("tensorrt")
        self.ILogger = type("ILogger", (), {"ERROR": 1})
        self.NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=1)
        self.BuilderFlag = types.SimpleNamespace(TF32=0)
        self.Builder = lambda logger: _Builder()
        self.OnnxParser = lambda network, logger: _Parser(plugins, network)


class _Builder:
    def create_network(self, flags: int) -> list[str]:
        return []

    def create_builder_config(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(clear_flag=lambda flag: None, add_optimization_profile=lambda profile: 0)

    def create_optimization_profile(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(set_shape=lambda name, least, usual, most: None)

    def build_serialized_network(self, network: list[str], config: object) -> bytes:
        return ",".join(network).encode()


class _Parser:
    """Reads nodes of standard operators, of functions, and of plugins that are registered."""

    def __init__(self, plugins: Module | None, network: list[str]) -> None:
        self._known = set() if plugins is None else set(plugins.kernels)
        self._network = network
        self.num_errors = 0

    def parse_from_file(self, path: str) -> bool:
        return self.parse(Path(path).read_bytes())

    def parse(self, content: bytes) -> bool:
        model = onnx.load_from_string(content)
        functions = {function.name for function in model.functions}
        for node in model.graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type not in functions and "plugin_namespace" in attributes:
                plugin = f"{attributes['plugin_namespace'].decode()}::{node.op_type}"
                assert plugin in self._known
                assert attributes["aot"] == 1
                self._network.append(plugin)
        return True
