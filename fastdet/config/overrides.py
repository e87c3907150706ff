"""`--cfg-options a.b.0.c=value`: parsing, and applying to a config."""

import ast
import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastdet.config.configdict import DELETE_KEY, ConfigDict, adopt
from fastdet.config.known_keys import is_known, known_under
from fastdet.config.merge import merge
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError, near_names

# A new argument of a part is taken for a slip of the keyboard when it is this close to one that is there.
_TOO_CLOSE = 0.85
_MOST_COPIES = 8
# Names that every config of MMDetection has, for its own use only.
_VARIABLES = frozenset({"dataset_type", "data_root", "train_pipeline", "val_pipeline", "test_pipeline", "img_norm_cfg"})


@dataclass(frozen=True)
class Override:
    """One change of a config: the keys that lead to a value, and the value. `add` allows keys that nobody knows."""

    keys: tuple[str, ...]
    value: Any
    add: bool
    text: str


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """The changes that `key.path=value` texts ask for.

    Values are typed: ints, floats, true/false, None, `[a,b]` lists, `(a,b)` tuples (nested as you like), `a,b,c` lists,
    `{...}` dicts in Python's notation. Anything else is a string; quotes make a string of what would be typed.

    Raises:
        ConfigError: a text without `=` or key, or brackets that do not match.
    """
    result = []
    for text in texts:
        key, equals, value = text.partition("=")
        add, key = key.startswith("+"), key.removeprefix("+").strip()
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--cfg-options {text} : write key=value, such as model.backbone.depth=50")
        try:
            result.append(Override(tuple(key.split(".")), parse_value(value), add, text))
        except ValueError as problem:
            raise ConfigError(f"--cfg-options {text} : {problem}") from None
    return result


def parse_value(text: str) -> Any:
    """The typed value of a text, see `parse_overrides`; raises ValueError for brackets that do not match."""
    text = text.strip()
    # Shells that keep quotes, and MMDetection's own examples, quote whole lists.
    if _is_quoted(text) and text[1:2] in ("[", "("):
        text = text[1:-1].strip()
    parts = _split(text)
    return [_parse(part) for part in parts if part] if len(parts) > 1 else _parse(text)


def _parse(text: str) -> Any:
    text = text.strip()
    if _is_quoted(text):
        return text[1:-1]
    if text[:1] == "{" and text[-1:] == "}":
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise ValueError(f"{text} is no dict in Python's notation: {{'key': value, ...}}") from None
    for opening, closing, kind in (("[", "]", list), ("(", ")", tuple)):
        if text[:1] == opening and text[-1:] == closing:
            return kind(_parse(part) for part in _split(text[1:-1]) if part.strip())
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), None if text == "None" else text)


def _is_quoted(text: str) -> bool:
    return len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]


def _split(text: str) -> list[str]:
    """The parts between commas that stand outside of brackets and quotes."""
    parts, stack, quote, start = [], [], "", 0
    closing = {"[": "]", "(": ")", "{": "}"}
    for position, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"" and sign in text[position + 1 :]:
            quote = sign
        elif sign in closing:
            stack.append(closing[sign])
        elif sign in closing.values() and (not stack or stack.pop() != sign):
            raise ValueError(f"the brackets of {text} do not match")
        elif sign == "," and not stack:
            parts.append(text[start:position])
            start = position + 1
    if stack:
        raise ValueError(f"the brackets of {text} do not match")
    return [*parts, text[start:]]


def apply_overrides(
    config: ConfigDict,
    overrides: Sequence[Override],
    *,
    known: Callable[[tuple[str, ...]], bool] | None = None,
) -> ConfigDict:
    """A new config with the changes made, in order.

    Args:
        known: whether the schema knows a key path that the config lacks; default: MMDetection's usual keys.

    Warns:
        UserWarning: a variable of the file was changed, and its old value stands where the file had used it.

    Raises:
        ConfigError: a key that neither the config nor the schema knows (without `+`), or a path through a value that
            holds no keys.
    """
    changed = config
    for override in overrides:
        changed = _changed(changed, override, 0, known or is_known)
    for override in overrides:
        _warn_of_copies(config, changed, override, known or is_known)
    return changed


def _changed(node: Any, override: Override, depth: int, known: Callable[[tuple[str, ...]], bool]) -> Any:
    """A copy of the node with the override's value at keys[depth:]."""
    source = Source(f"--cfg-options {override.text}", 0)
    if depth == len(override.keys):
        if not isinstance(node, dict) or not isinstance(override.value, dict) or override.value.get(DELETE_KEY):
            return adopt(override.value, source)
        value = ConfigDict(override.value)
        value.sources = dict.fromkeys(value, source)
        return adopt(merge(ConfigDict(node), value, path=override.keys))
    key = override.keys[depth]
    if isinstance(node, list | tuple):
        items = list(node)
        index = _index(items, override, depth)
        items[index] = _changed(items[index], override, depth + 1, known)
        return type(node)(items)
    if not isinstance(node, dict):
        raise _no_dict(node, override, depth)
    result = ConfigDict(node)
    if key in node:
        is_last = depth + 1 == len(override.keys)
        result.put(key, _changed(node[key], override, depth + 1, known), source if is_last else result.sources.get(key))
        return result
    _check_new_key(node, override, depth, known)
    value = adopt(override.value, source)
    for name in reversed(override.keys[depth + 1 :]):
        value = adopt({name: value}, source)
    result.put(key, value, source)
    return result


def _warn_of_copies(
    config: ConfigDict, changed: ConfigDict, override: Override, known: Callable[[tuple[str, ...]], bool]
) -> None:
    """Says so if the override's variable was read before, by the file itself, and what it gave still stands there."""
    name = override.keys[0]
    old = config.get(name)
    is_section = known((name,)) and name not in _VARIABLES
    if is_section or not isinstance(old, str | list | tuple | dict) or not old:
        return
    copies = [path for key, value in changed.items() if key != name for path in _holders(value, old, key)]
    if copies:
        shown = ", ".join(copies[:_MOST_COPIES]) + (", ..." if len(copies) > _MOST_COPIES else "")
        warnings.warn(
            f"--cfg-options {override.text} : the file has used the variable {name!r} before, and this changes nothing "
            f"of that\n  set what holds its value instead: {shown}",
            stacklevel=3,
        )


def _holders(node: Any, value: Any, path: str) -> Iterator[str]:
    """The paths below a node that hold a value, or a text that begins with it as a folder."""
    if node == value or (isinstance(node, str) and isinstance(value, str) and node.startswith(f"{value.rstrip('/')}/")):
        yield path
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _holders(child, value, f"{path}.{key}")
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from _holders(child, value, f"{path}.{index}")


def _check_new_key(
    node: dict[str, Any], override: Override, depth: int, known: Callable[[tuple[str, ...]], bool]
) -> None:
    """Refuses a key that neither the dict nor the schema knows. Parts check their own arguments later."""
    key = override.keys[depth]
    if override.add or known(override.keys[: depth + 1]):
        return
    names = [str(name) for name in node]
    if isinstance(node.get("type"), str) and not difflib.get_close_matches(key, names, n=1, cutoff=_TOO_CLOSE):
        return
    parent = ".".join(override.keys[:depth])
    where = f" under {parent!r}" if parent else ""
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    close = near_names(key, [*names, *known_under(override.keys[:depth])])
    hint = f"  did you mean {' or '.join(map(repr, close))}?\n" if close else ""
    raise ConfigError(
        f"--cfg-options {override.text} : the config has no key {key!r}{where} (keys: {shown})\n{hint}"
        f"  use  --cfg-options +{override.text.removeprefix('+')}  to add a new key on purpose"
    )


def _index(items: list[Any], override: Override, depth: int) -> int:
    key, parent = override.keys[depth], ".".join(override.keys[:depth])
    if key.isdigit() and int(key) < len(items):
        return int(key)
    raise ConfigError(
        f"--cfg-options {override.text} : {parent!r} is a list of {len(items)}, so {key!r} cannot be found in it\n"
        f"  use a number from 0 to {len(items) - 1}, or set the whole list: {parent}=[...]"
        if items
        else f"--cfg-options {override.text} : {parent!r} is an empty list; set it as a whole: {parent}=[...]"
    )


def _no_dict(node: object, override: Override, depth: int) -> ConfigError:
    parent = ".".join(override.keys[:depth])
    rest = ".".join(override.keys[depth:])
    return ConfigError(
        f"--cfg-options {override.text} : {parent!r} is {node!r}, which holds no keys, so {rest!r} cannot be set\n"
        f"  set it as a whole: \"{parent}={{'{override.keys[depth]}': ...}}\""
    )
