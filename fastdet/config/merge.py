"""Merging of configs: a child's values over its bases'."""

from fastdet.config.configdict import DELETE_KEY, ConfigDict
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError


def merge(base: ConfigDict, child: ConfigDict, *, path: tuple[str, ...] = ()) -> ConfigDict:
    """A new dict with the base's values, overridden by the child's.

    Dicts under the same key are merged in turn, unless the child's holds `_delete_=True`, which drops the base's.
    Everything else, lists included, is replaced. Places of values are kept; a merged dict counts as written where its
    `type` was.

    Args:
        path: keys that lead to these dicts, for messages.

    Raises:
        ConfigError: the child has a dict where the base has another type of value.
    """
    result = base.copy()
    for key, value in child.items():
        source = child.sources.get(key)
        old = result.get(key)
        if key not in result or not isinstance(value, dict):
            result.put(key, value, source)
        elif value.get(DELETE_KEY):
            fresh = ConfigDict(value)
            del fresh[DELETE_KEY]
            result.put(key, fresh, source)
        elif isinstance(old, dict):
            both = merge(ConfigDict(old), ConfigDict(value), path=(*path, key))
            both.pop(DELETE_KEY, None)
            result.put(key, both, source if "type" in value else base.sources.get(key, source))
        else:
            name = ".".join(map(str, (*path, key)))
            raise ConfigError(
                f"{name!r} is a dict here but {_kind(old)} in the base config\n"
                f"{_line(source, 'here')}{_line(base.sources.get(key), 'base')}"
                f"  to replace the base's value: {name}=dict({DELETE_KEY}=True, ...)"
            )
    if "type" in child and child.source is not None:
        result.source = child.source
    return result


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _line(source: Source | None, what: str) -> str:
    return f"  {source}  ({what})\n" if source else ""
