"""Running one Python config file so that every dict it makes knows its lines.

The file's syntax tree is rewritten: `dict(...)` calls, dict displays and assignments to items and attributes go
through the makers below, which note file and line; templates in strings are filled in. The tree then runs as ordinary
Python in a namespace of its own. Nothing is patched, and no temporary file is written.
"""

import ast
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.config.templates import TemplateProblem, base_value, environment_value, fill, split_base
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError, UnsupportedConfig

BASE_KEY = "_base_"
_DICT, _AT, _BASE_VALUE = "__fastdet_dict__", "__fastdet_at__", "__fastdet_base__"


class PythonFile:
    """A parsed config file: its base files, and the dict that it makes with their values at hand."""

    def __init__(self, path: Path, shown: str) -> None:
        """Args:
            path: the file.
            shown: its name in messages and positions.

        Raises:
            ConfigError: a syntax error, or a template without a value.
            UnsupportedConfig: a pure-Python style config.
        """
        self.path, self.shown = path, shown
        text = path.read_text(encoding="utf-8")
        self.lines = text.splitlines()
        try:
            tree = ast.parse(text, filename=str(path))
        except SyntaxError as problem:
            raise self._error(f"syntax error: {problem.msg}", problem.lineno) from None
        self._refuse_pure_python(tree)
        base = [n for n in tree.body if _assigns(n, BASE_KEY)]
        if len(base) > 1:
            raise self._error("`_base_` is set twice: write one list of files", base[1].lineno)
        tree.body = [n for n in tree.body if not _assigns(n, BASE_KEY)]
        rewriter = _Rewriter(path, rebound=_binds(tree, "dict"))
        try:
            self.tree = ast.fix_missing_locations(rewriter.visit(tree))
            expression = rewriter.visit(base[0].value) if base else None  # type: ignore[attr-defined]
        except TemplateProblem as problem:
            raise self._error(str(problem), rewriter.line) from None
        self.base_line = base[0].lineno if base else 0
        self._base = expression

    def bases(self) -> list[str]:
        """The names in `_base_`, as written."""
        if self._base is None:
            return []
        expression = ast.fix_missing_locations(ast.Expression(self._base))
        try:
            names = eval(compile(expression, str(self.path), "eval"), {})
        except Exception as problem:
            raise self._error(
                f"`_base_` must be a string or a list of strings, written out: {problem}", self.base_line
            ) from None
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            raise self._error(f"`_base_` must be a string or a list of strings, not {names!r}", self.base_line)
        return list(names)

    def run(self, base: ConfigDict) -> ConfigDict:
        """The variables that the file sets, without modules, functions, classes and `__names__`.

        Args:
            base: the merged base files, seen by the file as `_base_`; the file may change it.

        Raises:
            ConfigError: the file raised an exception; with its line.
        """
        code = compile(self.tree, str(self.path), "exec")
        makers = _makers(self.shown, base)
        namespace: dict[str, Any] = {BASE_KEY: base, "__file__": str(self.path), "__name__": self.path.stem, **makers}
        try:
            exec(code, namespace)
        except ConfigError:
            raise
        except Exception as problem:
            line = _line_of(problem, str(self.path))
            raise self._error(f"{type(problem).__name__}: {problem}", line) from problem
        places = _assigned_lines(self.tree.body)
        result = ConfigDict()
        result.source = Source(self.shown, 1)
        for name, value in namespace.items():
            if name != BASE_KEY and not name.startswith("__") and not isinstance(value, _NOT_VALUES):
                result.put(name, value, Source(self.shown, places.get(name, 1)))
        return result

    def _error(self, message: str, line: int | None) -> ConfigError:
        if line is None:
            return ConfigError(f"{message}\n  {self.shown}")
        written = self.lines[line - 1].strip() if 0 < line <= len(self.lines) else ""
        return ConfigError(f"{message}\n  {self.shown}:{line}   {written}".rstrip())

    def _refuse_pure_python(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            imported = isinstance(node, ast.ImportFrom)
            if (imported and node.level) or (imported and any(a.name == "read_base" for a in node.names)):  # type: ignore[attr-defined]
                raise UnsupportedConfig(
                    f"this is a pure-Python style config (`with read_base(): from ... import *`), which fastdet does "
                    f"not read yet\n  {self.shown}:{node.lineno}   {self.lines[node.lineno - 1].strip()}\n"  # type: ignore[attr-defined]
                    "  use the text-style config of the same model (`_base_ = [...]`): MMDetection has one in configs/ "
                    "for each in mmdet/configs/"
                )


_NOT_VALUES = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)


class _Rewriter(ast.NodeTransformer):
    """Fills templates, and routes dicts and item assignments through the makers."""

    def __init__(self, path: Path, *, rebound: bool) -> None:
        self.path = path
        self.rebound = rebound  # The file gives the name `dict` a meaning of its own.
        self.line = 0

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if not isinstance(node.value, str) or "{{" not in node.value:
            return node
        self.line = node.lineno
        pieces = split_base(fill(node.value, self.path))
        if len(pieces) == 1:
            return _at(node, ast.Constant(pieces[0]))
        values = [ast.Constant(p) if i % 2 == 0 else _call(_BASE_VALUE, p) for i, p in enumerate(pieces)]
        if len(pieces) == 3 and not pieces[0] and not pieces[2]:
            return _at(node, values[1])
        texts: list[ast.expr] = [
            v if isinstance(v, ast.Constant) else ast.FormattedValue(v, conversion=-1) for v in values
        ]
        return _at(node, ast.JoinedStr(texts))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.JoinedStr:
        node.values = [v if isinstance(v, ast.Constant) else self.visit(v) for v in node.values]
        return node

    def visit_Set(self, node: ast.Set) -> ast.expr:
        """`{{ _base_.x }}` and `{{'$NAME:80'}}` outside of strings, which Python reads as a set in a set."""
        inner = node.elts[0]
        content = inner.elts[0] if len(node.elts) == 1 and isinstance(inner, ast.Set) and len(inner.elts) == 1 else None
        name = _dotted(content)
        if name.startswith(f"{BASE_KEY}."):
            return _at(node, _call(_BASE_VALUE, name.removeprefix(f"{BASE_KEY}.")))
        if isinstance(content, ast.Constant) and isinstance(content.value, str) and content.value.startswith("$"):
            self.line = node.lineno
            variable, colon, default = content.value[1:].partition(":")
            if not colon:
                raise TemplateProblem(f"write {{{{'${variable}:default'}}}}")
            value = environment_value(variable.strip(), default.strip())
            try:
                expression = ast.parse(value, mode="eval").body
            except SyntaxError:
                raise TemplateProblem(
                    f"{value!r}, from the environment variable {variable!r} or its default, is no Python expression: "
                    "set the template in quotes to use it as text"
                ) from None
            return _at(node, self.visit(expression))
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if self.rebound or not isinstance(node.func, ast.Name) or node.func.id != "dict":
            return node
        entries: list[ast.expr] = [
            _tuple(ast.Constant(k.lineno), *([ast.Constant(k.arg)] if k.arg is not None else []), k.value)
            for k in node.keywords
        ]
        arguments = ast.Tuple(node.args, ast.Load())
        return _at(node, _call(_DICT, node.lineno, arguments, _tuple(*entries), True))

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        self.generic_visit(node)
        entries: list[ast.expr] = [
            _tuple(ast.Constant((k or v).lineno), *([k] if k is not None else []), v)
            for k, v in zip(node.keys, node.values, strict=True)
        ]
        return _at(node, _call(_DICT, node.lineno, ast.Tuple([], ast.Load()), _tuple(*entries), False))

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:
        self.generic_visit(node)
        return _at(node, _call(_DICT, node.lineno, ast.Tuple([node], ast.Load()), _tuple(), False))

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        self.generic_visit(node)
        for target in node.targets:
            _note_place(target)
        return node


def _note_place(target: ast.expr) -> None:
    """Makes `x[k] = v` and `x.k = v` note the line, if x is a ConfigDict."""
    if isinstance(target, ast.Subscript | ast.Attribute):
        target.value = _at(target, _call(_AT, target.lineno, target.value))
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            _note_place(element)


class _Writer:
    """Stands for a ConfigDict on the left of an assignment: what is set gets the place of that line."""

    def __init__(self, target: ConfigDict, source: Source) -> None:
        self.__dict__["put"] = lambda key, value: target.put(key, value, source)

    def __setitem__(self, key: str, value: Any) -> None:
        self.__dict__["put"](key, value)

    __setattr__ = __setitem__


def _makers(shown: str, base: ConfigDict) -> dict[str, Callable[..., Any]]:
    """The functions that the rewritten tree calls."""

    def make_dict(line: int, arguments: tuple[Any, ...], entries: tuple[tuple[Any, ...], ...], is_call: bool) -> Any:
        result = ConfigDict(*arguments)
        for key in result:
            result.sources.setdefault(key, Source(shown, line))
        result.source = Source(shown, line)
        seen: set[Any] = set()
        for entry_line, *key_part, value in entries:
            if key_part:
                items: Mapping[Any, Any] = {key_part[0]: value}
                places: Mapping[Any, Source] = {}
            else:
                if not isinstance(value, Mapping):
                    raise TypeError(f"the argument after ** must be a dict, not {type(value).__name__}")
                items, places = value, value.sources if isinstance(value, ConfigDict) else {}
            if is_call and seen & items.keys():
                raise TypeError(f"dict() got multiple values for the key {sorted(seen & items.keys())[0]!r}")
            seen |= items.keys()
            for key, item in items.items():
                result.put(key, item, places.get(key) or Source(shown, entry_line))
        return result

    def at(line: int, target: Any) -> Any:
        return _Writer(target, Source(shown, line)) if isinstance(target, ConfigDict) else target

    return {_DICT: make_dict, _AT: at, _BASE_VALUE: lambda name: base_value(base, name)}


def _call(function: str, *arguments: Any) -> ast.Call:
    values = [a if isinstance(a, ast.expr) else ast.Constant(a) for a in arguments]
    return ast.Call(ast.Name(function, ast.Load()), values, [])


def _tuple(*elements: ast.expr) -> ast.Tuple:
    return ast.Tuple(list(elements), ast.Load())


def _at(old: ast.expr, new: ast.expr) -> ast.expr:
    """The new node at the old one's place; what lies inside gets its place when the whole tree is ready."""
    return ast.copy_location(new, old)


def _dotted(node: ast.expr | None) -> str:
    """`a.b.c` of a chain of attributes, else an empty string."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)


def _binds(tree: ast.AST, name: str) -> bool:
    return any(
        (isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store))
        or (isinstance(n, ast.arg) and n.arg == name)
        or (isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name)
        for n in ast.walk(tree)
    )


def _assigned_lines(body: list[ast.stmt]) -> dict[str, int]:
    """The last line at which each variable of the module is set."""
    lines: dict[str, int] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        for name in (n for t in targets if t is not None for n in ast.walk(t)):
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                lines[name.id] = node.lineno
        for inner in ("body", "orelse", "finalbody"):
            lines.update(_assigned_lines(getattr(node, inner, [])))
        for handler in getattr(node, "handlers", []):
            lines.update(_assigned_lines(handler.body))
    return lines


def _line_of(problem: BaseException, file: str) -> int | None:
    """The innermost line of the file in the exception's traceback."""
    lines = [line for frame, line in traceback.walk_tb(problem.__traceback__) if frame.f_code.co_filename == file]
    return lines[-1] if lines else None
