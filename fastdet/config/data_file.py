"""Reading one JSON or YAML config file, with the line of every key."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.config.templates import TemplateProblem, base_value, fill, split_base
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError, EnvironmentProblem

BASE_KEY = "_base_"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}:\n]')


class DataFile:
    """A parsed JSON or YAML config: its base files and its values."""

    def __init__(self, path: Path, shown: str) -> None:
        """Args:
            path: the file; its suffix decides the format.
            shown: its name in messages and positions.

        Raises:
            ConfigError: the file is malformed, or holds something else than a mapping.
            EnvironmentProblem: a YAML file without the `yaml` extra.
        """
        self.shown = shown
        try:
            text = fill(path.read_text(encoding="utf-8"), path)
        except TemplateProblem as problem:
            raise ConfigError(f"{problem}\n  {shown}") from None
        pieces = split_base(text)
        # Base values come in after parsing: a placeholder string stands for each until then.
        self._names = {f"__fastdet_base_{i}__": name for i, name in enumerate(pieces[1::2])}
        marks = [f'"{mark}"' for mark in self._names]
        text = "".join(p for pair in zip(pieces[::2], [*marks, ""], strict=True) for p in pair)
        text = re.sub(r'(["\'])"(__fastdet_base_\d+__)"\1', r'"\2"', text)
        self._values = _read_json(text, shown) if path.suffix == ".json" else _read_yaml(text, shown)
        if not isinstance(self._values, ConfigDict):
            raise ConfigError(f"a config must be a mapping of names to values\n  {shown}")
        names = self._values.pop(BASE_KEY, [])
        self._bases = [names] if isinstance(names, str) else names

    def bases(self) -> list[str]:
        """The names in `_base_`, as written."""
        if not isinstance(self._bases, list) or not all(isinstance(n, str) for n in self._bases):
            raise ConfigError(f"`_base_` must be a string or a list of strings, not {self._bases!r}\n  {self.shown}")
        return self._bases

    def run(self, base: ConfigDict) -> ConfigDict:
        """The file's values, with those of `{{ _base_.x }}` taken from the merged base files."""
        try:
            return self._filled(self._values, base)
        except TemplateProblem as problem:
            raise ConfigError(f"{problem}\n  {self.shown}") from None

    def _filled(self, value: Any, base: ConfigDict) -> Any:
        if isinstance(value, str) and value in self._names:
            return base_value(base, self._names[value])
        if isinstance(value, ConfigDict):
            result = value.copy()
            for key, item in value.items():
                result.put(key, self._filled(item, base), value.sources.get(key))
            return result
        if isinstance(value, list | tuple):
            return type(value)(self._filled(item, base) for item in value)
        return value


def _read_json(text: str, shown: str) -> Any:
    lines = iter(_json_key_lines(text))

    def located(pairs: list[tuple[str, Any]]) -> ConfigDict:
        result = ConfigDict()
        start, keys = next(lines)
        result.source = Source(shown, start)
        for (key, value), line in zip(pairs, keys, strict=True):
            result.put(key, value, Source(shown, line))
        return result

    try:
        return json.loads(text, object_pairs_hook=located)
    except json.JSONDecodeError as problem:
        raise ConfigError(f"not valid JSON: {problem.msg}\n  {shown}:{problem.lineno}") from None
    except StopIteration:  # pragma: no cover - json.loads refuses the text before its objects outnumber ours
        raise ConfigError(f"not valid JSON\n  {shown}") from None


def _json_key_lines(text: str) -> list[tuple[int, list[int]]]:
    """First line and key lines of every object, in the order in which the objects close."""
    closed: list[tuple[int, list[int]]] = []
    opened: list[tuple[int, list[int]]] = []
    line, last_string = 1, 0
    for token in _TOKEN.findall(text):
        if token == "\n":
            line += 1
        elif token == "{":
            opened.append((line, []))
        elif token == "}" and opened:
            closed.append(opened.pop())
        elif token == ":" and opened:
            opened[-1][1].append(last_string)
        elif token.startswith('"'):
            last_string = line
    return closed


def _read_yaml(text: str, shown: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise EnvironmentProblem(
            f"YAML configs need the package pyyaml: pip install 'fastdet[yaml]'\n  {shown}"
        ) from None

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined]
        """Makes ConfigDicts that know their lines."""

    def mapping(loader: Any, node: Any) -> ConfigDict:
        loader.flatten_mapping(node)
        result = ConfigDict()
        result.source = Source(shown, node.start_mark.line + 1)
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            value = loader.construct_object(value_node, deep=True)
            result.put(key, value, Source(shown, key_node.start_mark.line + 1))
        return result

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    Loader.add_constructor(
        "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node))
    )
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f"{shown}:{mark.line + 1}" if mark else shown
        raise ConfigError(f"not valid YAML: {getattr(problem, 'problem', problem)}\n  {place}") from None
