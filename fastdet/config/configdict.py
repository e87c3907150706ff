"""ConfigDict: a dict that remembers in which file and line each of its values was written."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from fastdet.registry import Source

T = TypeVar("T")

DELETE_KEY = "_delete_"


class ConfigDict(dict[str, Any]):
    """A plain dict whose keys can also be read and set as attributes.

    `source` is the place where the dict itself was written, `sources` the place of each key's value, as far as they
    are known. Both are kept by copies, merges and pickles, and count nothing in comparisons. A config key named
    "source" or "sources" is reached by `config["source"]` only.
    """

    source: Source | None
    sources: dict[str, Source]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        first = args[0] if args else None
        known = first.sources if isinstance(first, ConfigDict) else {}
        object.__setattr__(self, "source", first.source if isinstance(first, ConfigDict) else None)
        object.__setattr__(self, "sources", {k: v for k, v in known.items() if k not in kwargs})

    def put(self, key: str, value: Any, source: Source | None) -> None:
        """Sets a value together with the place where it was written."""
        super().__setitem__(key, value)
        if source is None:
            self.sources.pop(key, None)
        else:
            self.sources[key] = source

    def place(self, key: str) -> Source | None:
        """Where the key's value was written, or else where the dict was."""
        return self.sources.get(key, self.source)

    def copy(self) -> "ConfigDict":
        return ConfigDict(self)

    def __setitem__(self, key: str, value: Any) -> None:
        self.put(key, value, None)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.sources.pop(key, None)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            keys = ", ".join(map(str, self)) or "none"
            raise AttributeError(f"no key {name!r} here (keys: {keys})") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("source", "sources"):
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"no key {name!r} here to delete") from None

    def update(self, *args: Any, **kwargs: Any) -> None:
        other = ConfigDict(*args, **kwargs)
        for key, value in other.items():
            self.put(key, value, other.sources.get(key))

    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> "ConfigDict":  # type: ignore[override]
        self.update(other)
        return self

    def __or__(self, other: Mapping[str, Any]) -> "ConfigDict":  # type: ignore[override]
        result = self.copy()
        result.update(other)
        return result

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        self.sources.pop(key, None)
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        key, value = super().popitem()
        self.sources.pop(key, None)
        return key, value

    def clear(self) -> None:
        super().clear()
        self.sources.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (dict(self), self.source, dict(self.sources))


def _restore(values: dict[str, Any], source: Source | None, sources: dict[str, Source]) -> ConfigDict:
    """A ConfigDict from its pickled or copied parts."""
    result = ConfigDict(values)
    result.source = source
    result.sources = sources
    return result


def adopt(value: Any, source: Source | None = None) -> Any:
    """A fresh copy in which every dict is a ConfigDict; parts without a known place get `source`.

    Lists and tuples are copied too, so that no two places of a config share an object. `_delete_` marks, which have
    done their work by then, are left out.
    """
    if isinstance(value, dict):
        result = ConfigDict()
        known = value.sources if isinstance(value, ConfigDict) else {}
        result.source = (value.source if isinstance(value, ConfigDict) else None) or source
        for key, item in value.items():
            if key != DELETE_KEY:
                place = known.get(key) or result.source
                result.put(key, adopt(item, place), place)
        return result
    if type(value) in (list, tuple):
        return type(value)(adopt(item, source) for item in value)
    return value


def plain(value: Any) -> Any:
    """A copy with plain dicts, lists and tuples only."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    return value
