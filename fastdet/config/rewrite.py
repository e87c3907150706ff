"""Rewriting a config file's syntax tree so that every dict that it makes knows its lines.

`dict(...)` calls, dict displays, keywords of `.update(...)` and assignments to items and attributes go through the
makers below, which note file and line. The tree then runs as ordinary Python in a namespace of its own: nothing is
patched, and no temporary file is written.
"""

import ast
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError

_DICT, _AT = "__fastdet_dict__", "__fastdet_at__"


class LineRewriter(ast.NodeTransformer):
    """Routes dicts and item assignments through the makers.

    Args:
        tree: the whole file; one that gives the name `dict` a meaning of its own keeps its calls.
    """

    def __init__(self, tree: ast.AST) -> None:
        self._rebound = binds(tree, "dict")

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "update" and node.keywords and not node.args:
            node.args, node.keywords = [self._made(node)], []
            return node
        if self._rebound or not isinstance(function, ast.Name) or function.id != "dict":
            return node
        return self._made(node)

    def _made(self, node: ast.Call) -> ast.expr:
        """The call's arguments as a call of the dict maker."""
        entries: list[ast.expr] = [
            _tuple(ast.Constant(k.lineno), *([ast.Constant(k.arg)] if k.arg is not None else []), k.value)
            for k in node.keywords
        ]
        arguments = ast.Tuple(node.args, ast.Load())
        return at(node, call(_DICT, node.lineno, arguments, _tuple(*entries), True))

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        self.generic_visit(node)
        entries: list[ast.expr] = [
            _tuple(ast.Constant((k or v).lineno), *([k] if k is not None else []), v)
            for k, v in zip(node.keys, node.values, strict=True)
        ]
        return at(node, call(_DICT, node.lineno, ast.Tuple([], ast.Load()), _tuple(*entries), False))

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:
        self.generic_visit(node)
        return at(node, call(_DICT, node.lineno, ast.Tuple([node], ast.Load()), _tuple(), False))

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        self.generic_visit(node)
        for target in node.targets:
            _note_place(target)
        return node


class ConfigSource:
    """The text of a Python config file, its syntax tree, and how its mistakes are told.

    Args:
        text: the file's content.
        path: the file, for tracebacks.
        shown: its name in messages and positions.

    Raises:
        ConfigError: a syntax error.
    """

    def __init__(self, text: str, path: str, shown: str) -> None:
        self.path, self.shown = path, shown
        self._lines = text.splitlines()
        try:
            self.tree = ast.parse(text, filename=path)
        except SyntaxError as problem:
            raise self.error(f"syntax error: {problem.msg}", problem.lineno) from None

    def error(self, message: str, line: int | None) -> ConfigError:
        """The message with the place, and what is written there."""
        if line is None:
            return ConfigError(f"{message}\n  {self.shown}")
        written = self._lines[line - 1].strip() if 0 < line <= len(self._lines) else ""
        return ConfigError(f"{message}\n  {self.shown}:{line}   {written}".rstrip())

    def execute(self, tree: ast.Module, namespace: dict[str, Any]) -> None:
        """Runs a rewritten tree.

        Raises:
            ConfigError: the file raised an exception; with its line.
        """
        code = compile(tree, self.path, "exec")
        try:
            exec(code, namespace)
        except ConfigError:
            raise
        except Exception as problem:
            line = _line_of(problem, self.path)
            raise self.error(f"{type(problem).__name__}: {problem}", line) from problem


class _Writer:
    """Stands for a ConfigDict on the left of an assignment: what is set gets the place of that line."""

    def __init__(self, target: ConfigDict, source: Source) -> None:
        self.__dict__["put"] = lambda key, value: target.put(key, value, source)

    def __setitem__(self, key: str, value: Any) -> None:
        self.__dict__["put"](key, value)

    __setattr__ = __setitem__


def makers(shown: str) -> dict[str, Callable[..., Any]]:
    """The functions that a rewritten tree calls."""

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

    def writer(line: int, target: Any) -> Any:
        return _Writer(target, Source(shown, line)) if isinstance(target, ConfigDict) else target

    return {_DICT: make_dict, _AT: writer}


def call(function: str, *arguments: Any) -> ast.Call:
    """A call of a maker; arguments that are no expressions are constants."""
    values = [a if isinstance(a, ast.expr) else ast.Constant(a) for a in arguments]
    return ast.Call(ast.Name(function, ast.Load()), values, [])


def at(old: ast.expr, new: ast.expr) -> ast.expr:
    """The new node at the old one's place; what lies inside gets its place when the whole tree is ready."""
    return ast.copy_location(new, old)


def binds(tree: ast.AST, name: str) -> bool:
    """Whether the tree gives a name a meaning of its own."""
    return any(
        (isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store))
        or (isinstance(n, ast.arg) and n.arg == name)
        or (isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name)
        for n in ast.walk(tree)
    )


def assigns(node: ast.stmt, name: str) -> bool:
    """Whether the statement is an assignment to that name."""
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)


def assigned_lines(body: list[ast.stmt]) -> dict[str, int]:
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
            lines.update(assigned_lines(getattr(node, inner, [])))
        for handler in getattr(node, "handlers", []):
            lines.update(assigned_lines(handler.body))
    return lines


def _note_place(target: ast.expr) -> None:
    """Makes `x[k] = v` and `x.k = v` note the line, if x is a ConfigDict."""
    if isinstance(target, ast.Subscript | ast.Attribute):
        target.value = at(target, call(_AT, target.lineno, target.value))
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            _note_place(element)


def _tuple(*elements: ast.expr) -> ast.Tuple:
    return ast.Tuple(list(elements), ast.Load())


def _line_of(problem: BaseException, file: str) -> int | None:
    """The innermost line of the file in the exception's traceback."""
    lines = [line for frame, line in traceback.walk_tb(problem.__traceback__) if frame.f_code.co_filename == file]
    return lines[-1] if lines else None
