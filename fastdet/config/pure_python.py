"""Reading one config file in MMEngine's pure-Python style: `with read_base(): from ..x import *`, classes as types.

Nothing of MMDetection, MMCV, MMEngine or PyTorch is imported: an imported class stands for its name. Only modules of
Python's standard library are imported for real.
"""

import ast
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastdet.config.configdict import DELETE_KEY, ConfigDict
from fastdet.config.imported import OPEN_MMLAB, Imported
from fastdet.config.merge import merge
from fastdet.config.python_file import BASE_KEY, NOT_VALUES
from fastdet.config.rewrite import ConfigSource, LineRewriter, assigned_lines, assigns, makers
from fastdet.registry import Source
from fastdet.utils.errors import suggestion

_CONTEXT = "read_base"


class Base(NamedTuple):
    """One import of a base file: `names` are (name there, name here), None for all of them."""

    line: int
    path: Path
    names: tuple[tuple[str, str], ...] | None


def is_pure_python(tree: ast.Module) -> bool:
    """Whether a config is in the pure-Python style: it has `read_base`, or imports classes of OpenMMLab or PyTorch."""
    if any(assigns(node, BASE_KEY) for node in tree.body):
        return any(_is_read_base(node) for node in tree.body)
    return any(
        _is_read_base(node)
        or (isinstance(node, ast.ImportFrom) and (node.level > 0 or _is_framework(node.module or "")))
        or (isinstance(node, ast.Import) and any(_is_framework(alias.name) for alias in node.names))
        for node in tree.body
    )


class BasedDict(ConfigDict):
    """A dict that came from a base file. As in MMEngine, its `update` goes into inner dicts, and it can `merge`.

    Dicts that the file itself makes are plain ones, whose `update` replaces inner dicts. Other than in MMEngine,
    which leaves the mark in the config, `_delete_=True` in an updating dict drops the old one.
    """

    def put(self, key: str, value: Any, source: Source | None) -> None:
        super().put(key, based(value), source)

    def update(self, *args: Any, **kwargs: Any) -> None:
        other = ConfigDict(*args, **kwargs)
        for key, value in other.items():
            old = self.get(key)
            if isinstance(old, BasedDict) and isinstance(value, dict) and not value.get(DELETE_KEY):
                old.update(value)
                continue
            if isinstance(value, dict) and DELETE_KEY in value:
                value = _without_mark(value)
            self.put(key, value, other.sources.get(key))

    def merge(self, other: Mapping[str, Any]) -> None:
        """Lays another dict over this one; `_delete_=True` in an inner dict drops the old one."""
        merged = merge(self, ConfigDict(other))
        self.clear()
        for key, value in merged.items():
            self.put(key, value, merged.sources.get(key))
        self.source = merged.source

    def pop(self, key: str, *default: Any) -> Any:
        return super().pop(key, *(default or (None,)))

    def copy(self) -> "BasedDict":
        return based(ConfigDict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return based, (ConfigDict(self),)


def based(value: Any) -> Any:
    """A copy in which every dict is a BasedDict."""
    if isinstance(value, BasedDict):
        return value
    if isinstance(value, dict):
        result = BasedDict()
        known = value if isinstance(value, ConfigDict) else ConfigDict(value)
        for key, item in known.items():
            result.put(key, item, known.sources.get(key))
        result.source = known.source
        return result
    if type(value) in (list, tuple):
        return type(value)(based(item) for item in value)
    return value


class PurePythonFile:
    """A parsed pure-Python config: its base files, and the variables that it sets with theirs at hand."""

    def __init__(self, path: Path, source: ConfigSource) -> None:
        """Args:
            path: the file.
            source: its text, parsed.

        Raises:
            ConfigError: an import that no config can have, or a base file that is not there.
        """
        self.path, self._source = path, source
        self._imports: dict[str, Imported] = {}
        self._bases: list[Base] = []
        body: list[ast.stmt] = []
        for node in source.tree.body:
            if assigns(node, BASE_KEY):
                raise source.error(
                    "a pure-Python config names its bases in `with read_base():`, not in `_base_`", node.lineno
                )
            if _is_read_base(node):
                self._bases += [self._base(inner) for inner in node.body]  # type: ignore[attr-defined]
            elif isinstance(node, ast.Import | ast.ImportFrom):
                body += self._rest_of_import(node)
            else:
                body.append(node)
        source.tree.body = body

    def bases(self) -> Sequence[Base]:
        """The base files in the order of their imports."""
        return self._bases

    def run(self, bases: Iterable[Mapping[str, Any]]) -> ConfigDict:
        """The variables of the file, those that it got from its bases among them; classes are `Imported`s.

        Args:
            bases: the variables of each of `bases()`.

        Raises:
            ConfigError: the file raised an exception, or a base file lacks a name; with its line.
        """
        shown, places = self._source.shown, {}
        namespace: dict[str, Any] = {"__file__": str(self.path), "__name__": self.path.stem, **makers(shown)}
        for base, values in zip(self._bases, bases, strict=True):
            found = based(values)
            for theirs, ours in base.names or [(name, name) for name in found]:
                if theirs not in found:
                    raise self._source.error(
                        f"no {theirs!r} in {base.path.name}: {suggestion(theirs, found)}", base.line
                    )
                namespace[ours] = found[theirs]
                places[ours] = found.place(theirs)
        inherited = dict(namespace)
        namespace |= self._imports
        tree = ast.fix_missing_locations(LineRewriter(self._source.tree).visit(self._source.tree))
        self._source.execute(tree, namespace)
        written = assigned_lines(tree.body)
        self._warn_of_dropped_types(namespace, inherited, written)
        places |= {name: Source(shown, line) for name, line in written.items()}
        result = ConfigDict()
        result.source = Source(shown, 1)
        for name, value in namespace.items():
            if not name.startswith("__") and not isinstance(value, NOT_VALUES):
                result.put(name, value, places.get(name))
        return result

    def _warn_of_dropped_types(
        self, namespace: Mapping[str, Any], inherited: Mapping[str, Any], written: Mapping[str, int]
    ) -> None:
        """`model = dict(...)` replaces the base's model here, where a text config would change it."""
        for name in written.keys() & inherited.keys():
            value, old = namespace.get(name), inherited[name]
            if isinstance(value, dict) and isinstance(old, dict) and "type" in old and "type" not in value:
                warnings.warn(
                    f"{self._source.shown}:{written[name]}: `{name} = dict(...)` replaces the base's {name}, its type "
                    f"with it; in a pure-Python config `{name}.update(...)` changes it",
                    UserWarning,
                    stacklevel=4,
                )

    def _base(self, node: ast.stmt) -> Base:
        if not isinstance(node, ast.ImportFrom) or not node.module:
            raise self._source.error(
                "inside `with read_base():` there can be only `from ..folder.file import ...`", node.lineno
            )
        names = tuple((alias.name, alias.asname or alias.name) for alias in node.names)
        return Base(node.lineno, self._base_path(node), None if ("*", "*") in names else names)

    def _base_path(self, node: ast.ImportFrom) -> Path:
        """The file of a base's module: beside this one, or of a package that lies around it or is installed."""
        parts = (node.module or "").split(".")
        if node.level:
            folders = [self.path.parents[min(node.level, len(self.path.parents)) - 1]]
        else:
            folders = [*self.path.parents, Path.cwd()]
            # For a top-level package, find_spec looks for the files and runs none of them.
            spec = importlib.util.find_spec(parts[0])
            folders += [Path(place).parent for place in (spec.submodule_search_locations or ())] if spec else []
        for folder in folders:
            path = folder.joinpath(*parts).with_suffix(".py")
            if path.is_file():
                return path
        where = folders[0].joinpath(*parts).with_suffix(".py") if node.level else f"a package {parts[0]!r} with it"
        raise self._source.error(f"base config file not found: {where}", node.lineno)

    def _rest_of_import(self, node: ast.Import | ast.ImportFrom) -> list[ast.stmt]:
        """Notes what an import outside of `read_base` names; returns the imports that run for real."""
        place = f"{self._source.shown}:{node.lineno}"
        if isinstance(node, ast.Import):
            real = [alias for alias in node.names if _is_standard(alias.name)]
            for alias in node.names:
                if alias not in real:
                    module = alias.name if alias.asname else alias.name.partition(".")[0]
                    self._imports[alias.asname or module] = Imported(module, "", place)
            return [ast.copy_location(ast.Import(real), node)] if real else []
        if not node.level and _is_standard(node.module or ""):
            return [node]
        for alias in node.names:
            if node.level or alias.name == "*":
                raise self._source.error(
                    "`import *` and relative imports are for base files: put the line into `with read_base():`",
                    node.lineno,
                )
            if alias.name != _CONTEXT:
                self._imports[alias.asname or alias.name] = Imported(node.module or "", alias.name, place)
        return []


def _without_mark(value: dict[str, Any]) -> ConfigDict:
    result = ConfigDict(value)
    del result[DELETE_KEY]
    return result


def _is_read_base(node: ast.stmt) -> bool:
    if not isinstance(node, ast.With) or len(node.items) != 1:
        return False
    context = node.items[0].context_expr
    function = context.func if isinstance(context, ast.Call) else None
    return isinstance(function, ast.Name | ast.Attribute) and _CONTEXT in (
        getattr(function, "id", ""),
        getattr(function, "attr", ""),
    )


def _is_framework(module: str) -> bool:
    return module.partition(".")[0] in OPEN_MMLAB | {"torch"}


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names
