"""Reading a config's dicts key by key: places in files, names without scopes, unknown keys, Specs."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.registry import FrozenDict, Source, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig, suggestion

# Scopes whose names fastdet takes as its own; others (mmpretrain.X) stay in the name.
SCOPES = ("mmdet.", "mmcv.", "mmengine.")

# How a file is opened; local files are the only ones here.
FILE_ARGUMENTS = ("backend_args", "file_client_args")
LOCAL_BACKENDS = (None, "disk", "local")


def name_of(node: Mapping[str, Any], default: str = "") -> str:
    """The node's `type` as a bare name: classes by their name, MMDetection's own scopes left out."""
    name = node.get("type", default)
    if isinstance(name, type):
        name = name.__name__
    if not isinstance(name, str):
        raise ConfigError(f"'type' must be a name, not {name!r}{at(place_of(node, 'type'))}")
    for scope in SCOPES:
        name = name.removeprefix(scope)
    return name


def place_of(node: Any, key: str | None = None) -> Source | None:
    """Where a dict, or the value of one of its keys, was written."""
    if not isinstance(node, ConfigDict):
        return None
    return node.source if key is None else node.place(key)


def at(source: Source | None) -> str:
    """A line for messages that says where: empty if that is unknown."""
    return f"\n  {source}" if source else ""


def warn(message: str, source: Source | None = None) -> None:
    """One line to the user through `warnings`, with the place in front."""
    warnings.warn(f"{source}: {message}" if source else message, UserWarning, stacklevel=3)


class Section:
    """One dict of a config from which the known keys are taken out; what is left in the end is an error.

    Args:
        node: the dict; it is not changed.
        name: how messages call it ("train_dataloader", "Resize").
        own_parts: the config brings parts of the user's own, which are carried by name where they can be.
    """

    def __init__(self, node: Any, name: str, *, own_parts: bool = False) -> None:
        if not isinstance(node, Mapping):
            raise ConfigError(f"{name} must be a dict, not {node!r}")
        self.node = node
        self.name = name
        self.own_parts = own_parts
        self._left = dict(node)
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def place(self, key: str | None = None) -> Source | None:
        return place_of(self.node, key)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, which counts as known and read from now on."""
        self._known.add(key)
        return self._left.pop(key, default)

    def skip(self, *keys: str) -> None:
        """Takes keys that change no result."""
        for key in keys:
            self.take(key)

    def whole(self, key: str, default: Any = None) -> Any:
        """A whole number (3.0 counts as 3), or the default."""
        value = self.take(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise self.wrong(key, value, "a whole number")
        return int(value)

    def number(self, key: str, default: Any = None) -> Any:
        """A number, or the default."""
        value = self.take(key, default)
        if value is not default and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise self.wrong(key, value, "a number")
        return value

    def flag(self, key: str, default: bool | None = False) -> Any:
        """True or False, or the default."""
        value = self.take(key, default)
        if value is not default and not isinstance(value, bool):
            raise self.wrong(key, value, "True or False")
        return value

    def text(self, key: str, default: str | None = None) -> Any:
        """A string, or the default; None gives the default."""
        value = self.take(key, default)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, value, "a string")
        return value

    def only(self, key: str, *allowed: Any) -> None:
        """Takes a key of which fastdet runs some values only.

        Raises:
            UnsupportedConfig: another value.
        """
        value = self.take(key, allowed[0])
        if value not in allowed:
            raise UnsupportedConfig(
                f"{self.name} with {key}={value!r} is not supported{at(self.place(key))}\n"
                f"  supported: {', '.join(map(repr, allowed))}"
            )

    def local_files(self) -> None:
        """Takes the keys that say how files are opened.

        Raises:
            UnsupportedConfig: anything but local files.
        """
        for key in FILE_ARGUMENTS:
            value = self.take(key)
            backend = value.get("backend") if isinstance(value, Mapping) else value
            if backend not in LOCAL_BACKENDS:
                raise UnsupportedConfig(
                    f"{self.name} reads through the file backend {backend!r}; fastdet reads local files"
                    f"{at(self.place(key))}\n  copy or mount the data and remove {key}"
                )

    def left(self) -> dict[str, Any]:
        """The keys that nobody took."""
        return dict(self._left)

    def finish(self, *more: str) -> None:
        """Raises ConfigError if a key is left; `more` are further known names for the suggestion."""
        for key in self._left:
            known = {*self._known, *more} - {"type"}
            raise ConfigError(
                f"unknown argument {key!r} for {self.name}{at(self.place(key))}\n  {suggestion(str(key), known)}\n"
                f"  all arguments: {', '.join(sorted(known))}"
            )

    def wrong(self, key: str, value: Any, wanted: str) -> ConfigError:
        return ConfigError(f"{self.name}: {key} must be {wanted}, not {value!r}{at(self.place(key))}")

    def unsupported(self, what: str, fix: str, key: str | None = None) -> UnsupportedConfig:
        return UnsupportedConfig(f"{self.name}: {what}{at(self.place(key))}\n  {fix}")


def spec(name: str, arguments: Mapping[str, Any], node: Any = None) -> Spec:
    """A Spec that knows where it and its arguments were written in `node`; nested dicts with a type become Specs."""
    values = {key: frozen(value) for key, value in arguments.items()}
    places = {key: node.place(key) for key in values} if isinstance(node, ConfigDict) else {}
    return Spec(name, FrozenDict(values), place_of(node), FrozenDict({k: v for k, v in places.items() if v}))


def spec_of(node: Mapping[str, Any]) -> Spec:
    """The Spec of a component that fastdet carries by its name, with all of its arguments."""
    return spec(name_of(node), {k: v for k, v in node.items() if k != "type"}, node)


def frozen(value: Any) -> Any:
    """Lists as tuples, dicts as FrozenDicts or, with a `type`, as Specs that know their places."""
    if isinstance(value, Spec | FrozenDict):
        return value
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str | type):
            return spec_of(value)
        return FrozenDict({k: frozen(v) for k, v in value.items()})
    if isinstance(value, list | tuple):
        return tuple(frozen(v) for v in value)
    return value


def without(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values that differ from their defaults, so that written and omitted defaults are equal."""
    return {k: v for k, v in values.items() if k not in defaults or frozen(v) != frozen(defaults[k])}


def rename(node: ConfigDict, old: str, new: str) -> None:
    """Moves a key's value to another name, its place with it."""
    source = node.sources.get(old)
    node.put(new, node.pop(old), source)


def derived(node: Any, key: str | None = None, **values: Any) -> ConfigDict:
    """A new dict whose values count as written where `node` (or its `key`) was."""
    result = ConfigDict()
    result.source = place_of(node, key)
    for name, value in values.items():
        result.put(name, value, result.source)
    return result


def as_list(value: Any) -> list[Any]:
    """Lists and tuples as a list, None as an empty one, a single value as a list of it."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def dict_list(nodes: Any, name: str) -> list[ConfigDict]:
    """A list of dicts, each with a `type`.

    Raises:
        ConfigError: something else in the list.
    """
    result = []
    for node in as_list(nodes):
        if not isinstance(node, ConfigDict) or "type" not in node:
            raise ConfigError(f"{name}: expected a dict with a type, not {node!r}{at(place_of(node))}")
        result.append(node)
    return result


def names(values: Iterable[str]) -> str:
    """Quoted names for messages."""
    return ", ".join(repr(v) for v in values)
