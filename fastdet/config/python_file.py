"""Running one Python config file in the text style (`_base_ = [...]`); templates in strings are filled in."""

import ast
import types
from pathlib import Path
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.config.rewrite import ConfigSource, LineRewriter, assigned_lines, assigns, at, call, makers
from fastdet.config.templates import TemplateProblem, base_value, environment_value, fill, split_base
from fastdet.registry import Source

BASE_KEY = "_base_"
_BASE_VALUE = "__fastdet_base__"


class PythonFile:
    """A parsed config file: its base files, and the dict that it makes with their values at hand."""

    def __init__(self, path: Path, source: ConfigSource) -> None:
        """Args:
            path: the file.
            source: its text, parsed.

        Raises:
            ConfigError: a template without a value.
        """
        self.path, self._source = path, source
        tree = source.tree
        base = [n for n in tree.body if assigns(n, BASE_KEY)]
        if len(base) > 1:
            raise source.error("`_base_` is set twice: write one list of files", base[1].lineno)
        tree.body = [n for n in tree.body if not assigns(n, BASE_KEY)]
        rewriter = _Rewriter(path, tree)
        try:
            self._tree = ast.fix_missing_locations(rewriter.visit(tree))
            self._base = rewriter.visit(base[0].value) if base else None  # type: ignore[attr-defined]
        except TemplateProblem as problem:
            raise source.error(str(problem), rewriter.line) from None
        self._base_line = base[0].lineno if base else 0

    def bases(self) -> list[str]:
        """The names in `_base_`, as written."""
        if self._base is None:
            return []
        expression = ast.fix_missing_locations(ast.Expression(self._base))
        try:
            names = eval(compile(expression, str(self.path), "eval"), {})
        except Exception as problem:
            raise self._source.error(
                f"`_base_` must be a string or a list of strings, written out: {problem}", self._base_line
            ) from None
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            raise self._source.error(f"`_base_` must be a string or a list of strings, not {names!r}", self._base_line)
        return list(names)

    def run(self, base: ConfigDict) -> ConfigDict:
        """The variables that the file sets, without modules, functions, classes and `__names__`.

        Args:
            base: the merged base files, seen by the file as `_base_`; the file may change it.

        Raises:
            ConfigError: the file raised an exception; with its line.
        """
        shown = self._source.shown
        namespace: dict[str, Any] = {
            BASE_KEY: base,
            "__file__": str(self.path),
            "__name__": self.path.stem,
            _BASE_VALUE: lambda name: base_value(base, name),
            **makers(shown),
        }
        self._source.execute(self._tree, namespace)
        places = assigned_lines(self._tree.body)
        result = ConfigDict()
        result.source = Source(shown, 1)
        for name, value in namespace.items():
            if name != BASE_KEY and not name.startswith("__") and not isinstance(value, NOT_VALUES):
                result.put(name, value, Source(shown, places.get(name, 1)))
        return result


NOT_VALUES = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)


class _Rewriter(LineRewriter):
    """Fills templates too."""

    def __init__(self, path: Path, tree: ast.AST) -> None:
        super().__init__(tree)
        self.path = path
        self.line = 0

    def visit_Constant(self, node: ast.Constant) -> ast.expr:  # noqa: N802 - named by ast
        if not isinstance(node.value, str) or "{{" not in node.value:
            return node
        self.line = node.lineno
        pieces = split_base(fill(node.value, self.path))
        if len(pieces) == 1:
            return at(node, ast.Constant(pieces[0]))
        values = [ast.Constant(p) if i % 2 == 0 else call(_BASE_VALUE, p) for i, p in enumerate(pieces)]
        if len(pieces) == 3 and not pieces[0] and not pieces[2]:
            return at(node, values[1])
        texts: list[ast.expr] = [
            v if isinstance(v, ast.Constant) else ast.FormattedValue(v, conversion=-1) for v in values
        ]
        return at(node, ast.JoinedStr(texts))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.JoinedStr:  # noqa: N802 - named by ast
        node.values = [v if isinstance(v, ast.Constant) else self.visit(v) for v in node.values]
        return node

    def visit_Set(self, node: ast.Set) -> ast.expr:  # noqa: N802 - named by ast
        """`{{ _base_.x }}` and `{{'$NAME:80'}}` outside of strings, which Python reads as a set in a set."""
        inner = node.elts[0]
        content = inner.elts[0] if len(node.elts) == 1 and isinstance(inner, ast.Set) and len(inner.elts) == 1 else None
        name = _dotted(content)
        if name.startswith(f"{BASE_KEY}."):
            return at(node, call(_BASE_VALUE, name.removeprefix(f"{BASE_KEY}.")))
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
            return at(node, self.visit(expression))
        return self.generic_visit(node)  # type: ignore[return-value]


def _dotted(node: ast.expr | None) -> str:
    """`a.b.c` of a chain of attributes, else an empty string."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""
