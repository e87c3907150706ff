"""Named parts and how a tree of them is built: Spec, Registry, build."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastdet.utils.errors import ConfigError, UnsupportedConfig, suggestion


class Source(NamedTuple):
    """Where a value was written: config file and line, or a command-line option and 0."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class FrozenDict(dict[str, Any]):
    """A dict that refuses changes, compares by value and pickles."""

    def _refuse(self, *args: object, **kwargs: object) -> None:
        raise TypeError("this configuration is frozen: build a new one instead of changing it")

    __setitem__ = __delitem__ = update = pop = popitem = clear = setdefault = __ior__ = _refuse  # type: ignore[assignment]

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))  # the keys alone: 1 and 1.0 are equal values, and must not tell dicts apart

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)


@dataclass(frozen=True)
class Spec:
    """A part by name with its arguments; compared by value, wherever it was written.

    Argument values are None, bool, int, float, str, tuples, FrozenDicts and other Specs.
    """

    type: str
    args: FrozenDict = field(default_factory=FrozenDict)
    source: Source | None = field(default=None, compare=False)
    arg_sources: FrozenDict = field(default_factory=FrozenDict, compare=False)

    @classmethod
    def of(cls, type: str, /, **args: Any) -> "Spec":
        """A Spec from plain values: lists become tuples, dicts become FrozenDicts."""
        return cls(type, FrozenDict({k: freeze(v) for k, v in args.items()}))

    def replace(self, **changes: Any) -> "Spec":
        """The same Spec with some arguments changed or added."""
        args = dict(self.args)
        args.update({k: freeze(v) for k, v in changes.items()})
        return Spec(self.type, FrozenDict(args), self.source, self.arg_sources)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values; the name stands under `type`."""
        return {"type": self.type, **{k: thaw(v) for k, v in self.args.items()}}


def freeze(value: Any) -> Any:
    """Plain values with lists as tuples and dicts as FrozenDicts; a dict with a `type` string becomes a Spec."""
    if isinstance(value, Spec | FrozenDict):
        return value
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str):
            return Spec.of(value["type"], **{k: v for k, v in value.items() if k != "type"})
        return FrozenDict({k: freeze(v) for k, v in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(v) for v in value)
    return value


def thaw(value: Any) -> Any:
    """The inverse of `freeze`, into JSON's types."""
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {k: thaw(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(v) for v in value]
    return value


class Registry:
    """Parts of one kind by name. `kind` is the field's word for them, used in messages ("backbone")."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, Callable[..., Any]] = {}
        self.refused: dict[str, str] = {}

    def register(self, *names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator that adds a class or factory under the given names (default: its own)."""

        def add(part: Callable[..., Any]) -> Callable[..., Any]:
            for name in names or (part.__name__,):
                other = self._parts.get(name)
                if other is not None and other is not part:
                    raise ValueError(
                        f"{self.kind} {name!r} is registered already, by {other.__module__}.{other.__qualname__}"
                    )
                self._parts[name] = part
            return part

        return add

    def refuse(self, name: str, reason: str) -> None:
        """Says why a part that people know is not there; it stands in the error. Anyone may register it still."""
        self.refused[name] = reason

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def get(self, name: str) -> Callable[..., Any]:
        """The part of that name; KeyError if there is none."""
        return self._parts[name]


DETECTORS = Registry("detector")
BACKBONES = Registry("backbone")
NECKS = Registry("neck")
HEADS = Registry("head")
STAGES = Registry("stage")
LAYERS = Registry("layer")
PRIORS = Registry("prior generator")
CODERS = Registry("box coder")
ASSIGNERS = Registry("assigner")
SAMPLERS = Registry("sampler")
LOSSES = Registry("loss")
CRITERIA = Registry("criterion")
POSTPROCESS = Registry("post-processing")
EXTRACTORS = Registry("RoI extractor")
DATASETS = Registry("dataset")
TRANSFORMS = Registry("transform")
METRICS = Registry("metric")
OPTIMIZERS = Registry("optimizer")
SCHEDULES = Registry("schedule")
HOOKS = Registry("hook")

MODEL_PARTS: tuple[Registry, ...] = (
    DETECTORS, BACKBONES, NECKS, HEADS, STAGES, LAYERS, PRIORS, CODERS,
    ASSIGNERS, SAMPLERS, LOSSES, CRITERIA, POSTPROCESS, EXTRACTORS,
)  # fmt: skip


def _find(spec: Spec, registries: Sequence[Registry], role: str) -> Callable[..., Any]:
    for registry in registries:
        if spec.type in registry:
            return registry.get(spec.type)
    known = [name for registry in registries for name in registry]
    place = f" (asked in {spec.source})" if spec.source else ""
    article = "an" if role[:1] in "aeiou" else "a"
    reasons = [registry.refused[spec.type] for registry in registries if spec.type in registry.refused]
    raise UnsupportedConfig(
        f"{spec.type!r} is not registered as {article} {role}{place}\n"
        f"  {reasons[0] if reasons else suggestion(spec.type, known)}\n"
        "  if it is yours: custom_imports=dict(imports=['your_package.your_module'])"
    )


def defaults(spec: Spec, registries: Sequence[Registry] = MODEL_PARTS) -> dict[str, Any]:
    """The values that a Spec's part takes where the Spec has none; {} for a part that is not registered."""
    part = next((registry.get(spec.type) for registry in registries if spec.type in registry), None)
    parameters = {} if part is None else inspect.signature(part).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def check_arguments(part: Callable[..., Any], spec: Spec, extra: Mapping[str, Any]) -> None:
    """Raises ConfigError if the part does not take the Spec's arguments, or needs one that is missing.

    `extra` are live objects that the part is given beside them; a Spec cannot set these.
    """
    parameters = inspect.signature(part).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        free = [name for name in parameters if name not in extra]
        for name in spec.args:
            if name not in free:
                place = spec.arg_sources.get(name) or spec.source
                where = f"\n  {place}" if place else ""
                raise ConfigError(
                    f"unknown argument {name!r} for {spec.type}{where}\n  {suggestion(name, free)}\n"
                    f"  all arguments: {', '.join(free)}"
                )
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        )
        if required and name not in spec.args and name not in extra:
            where = f"\n  {spec.source}" if spec.source else ""
            raise ConfigError(f"{spec.type} needs the argument {name!r}{where}")


def build(spec: Spec, registries: Sequence[Registry], *, role: str = "part", **parts: Any) -> Any:
    """The object that a Spec describes, its nested Specs built first.

    Args:
        registries: where names are looked up, in order.
        role: what the Spec stands for, in messages; nested Specs use their argument's name.
        parts: live objects passed to the outermost part beside the Spec's arguments.

    Raises:
        UnsupportedConfig: a name that no registry knows.
        ConfigError: an argument that the part does not take, or lacks; a value that it refuses.
    """
    part = _find(spec, registries, role)
    check_arguments(part, spec, parts)

    def nested(value: Any, name: str) -> Any:
        if isinstance(value, Spec):
            return build(value, registries, role=name)
        if isinstance(value, tuple):
            return tuple(nested(v, name.removesuffix("s")) for v in value)
        return value

    arguments = {name: nested(value, name.replace("_", " ")) for name, value in spec.args.items()}
    try:
        return part(**arguments, **parts)
    except (TypeError, ValueError) as problem:
        if spec.source is None:
            raise
        raise ConfigError(f"{spec.type} cannot be built: {problem}\n  {spec.source}") from problem
