"""Writing a resolved config: as a Python file that loads back equal, or as JSON."""

import json
import keyword
import math
import re
from collections.abc import Mapping
from typing import Any

from fastdet.utils.errors import ConfigError

_WIDTH = 100
# Names that the written file itself uses: a config variable of that name must not hide them.
_USED = frozenset({"dict", "float", "set", "globals", "_base_"})


def dump_python(config: Mapping[str, Any]) -> str:
    """The config as Python source, one `name = value` a variable; `load_config` reads an equal config from it.

    Raises:
        ConfigError: a value that has no Python notation (an object, a class); names its key.
    """
    written = [(k, v) for k, v in config.items() if _is_name(k) and k not in _USED and not k.startswith("__")]
    rest = {k: v for k, v in config.items() if not (_is_name(k) and k not in _USED and not k.startswith("__"))}
    lines = [f"{name} = {_python(value, 0, (name,))}" for name, value in written]
    if rest:
        lines.append(f"globals().update({_braces(rest, 0, ())})")
    return "\n".join(lines) + "\n"


def dump_json(config: Mapping[str, Any]) -> str:
    """The config as JSON; tuples become lists.

    Raises:
        ConfigError: a value that JSON cannot hold.
    """
    try:
        return json.dumps(config, indent=2, ensure_ascii=False, allow_nan=True) + "\n"
    except TypeError as problem:
        raise ConfigError(f"this config cannot be written as JSON: {problem}") from None


def _is_name(key: object) -> bool:
    # Python normalises other letters in names, so that they would not come back as they were.
    return isinstance(key, str) and key.isascii() and key.isidentifier() and not keyword.iskeyword(key)


def _python(value: Any, indent: int, path: tuple[Any, ...]) -> str:
    if isinstance(value, Mapping):
        if not all(_is_name(key) for key in value):
            return _braces(value, indent, path)
        items = [f"{k}={_python(v, indent + 4, (*path, k))}" for k, v in value.items()]
        return _wrapped("dict(", items, ")", indent, one_line=not _is_nested(value.values()))
    if type(value) is list:
        return _sequence("[", value, "]", indent, path)
    if type(value) is tuple:
        comma = "," if len(value) == 1 else ""
        return _sequence("(", value, f"{comma})", indent, path)
    if type(value) in (set, frozenset):
        inner = ", ".join(sorted(_python(v, indent, path) for v in value))
        braces = f"{{{inner}}}" if value else "set()"
        return braces if type(value) is set else f"frozenset({braces})"
    if type(value) is float and not math.isfinite(value):
        return f"float('{value}')"
    if type(value) is str:
        return _text(value)
    if value is None or type(value) in (bool, int, float, bytes, complex):
        return repr(value)
    raise ConfigError(
        f"{'.'.join(map(str, path))} is a {type(value).__name__}, which has no notation in a config file: {value!r}"
    )


def _text(value: str) -> str:
    """The string; `{{` that would be read as a template is taken apart."""
    if "{{" not in value:
        return repr(value)
    pieces = re.split(r"(?<=\{)(?=\{)", value)
    return "(" + " + ".join(map(repr, pieces)) + ")"


def _braces(value: Mapping[Any, Any], indent: int, path: tuple[Any, ...]) -> str:
    items = [f"{_python(k, indent + 4, path)}: {_python(v, indent + 4, (*path, k))}" for k, v in value.items()]
    return _wrapped("{", items, "}", indent, one_line=not _is_nested(value.values()))


def _sequence(opening: str, values: Any, closing: str, indent: int, path: tuple[Any, ...]) -> str:
    items = [_python(v, indent + 4, (*path, i)) for i, v in enumerate(values)]
    dicts = sum(isinstance(v, Mapping) for v in values)
    return _wrapped(opening, items, closing, indent, one_line=dicts == 0)


def _is_nested(values: Any) -> bool:
    """Whether any value is a filled dict, or a list of them: such dicts are written one key a line."""
    return any(isinstance(v, Mapping) and v for v in values) or any(
        isinstance(item, Mapping) for v in values if isinstance(v, list | tuple) for item in v
    )


def _wrapped(opening: str, items: list[str], closing: str, indent: int, *, one_line: bool) -> str:
    flat = opening + ", ".join(items) + closing
    if not items or (one_line and "\n" not in flat and len(flat) + indent <= _WIDTH):
        return flat
    space = " " * (indent + 4)
    end = closing.removeprefix(",")
    return f"{opening}\n" + "".join(f"{space}{item},\n" for item in items) + " " * indent + end
