"""Reading the config text that a checkpoint holds, without running it.

MMCV and MMEngine store a config spelled out: assignments of dicts, lists, strings and numbers. Names that were assigned
before, `+`, `-`, `*`, `/`, and items of dicts and lists are understood as well; anything else is refused, as a file
from the network must not be able to run code.
"""

import ast
import operator
from collections.abc import Callable
from typing import Any

from fastdet.config.configdict import ConfigDict, adopt
from fastdet.config.rewrite import ConfigSource
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_LARGEST = 10_000  # Items of a list made by `*`, so that a text cannot fill the memory.


def read_literal(text: str, shown: str) -> ConfigDict:
    """The values of a config text made of literals.

    Args:
        text: Python source; a first line that is a file name, as MMCV 0.x wrote it, is left out.
        shown: how messages call it.

    Raises:
        ConfigError: the text holds something that would have to be run.
    """
    first, _, rest = text.partition("\n")
    if first.strip().endswith((".py", ".json", ".yaml", ".yml")) and "=" not in first:
        text = f"\n{rest}"
    source = ConfigSource(text, shown, shown)
    reader = _Reader(source)
    for node in source.tree.body:
        reader.statement(node)
    result: ConfigDict = adopt(reader.values, Source(shown, 1))
    return result


class _Reader:
    def __init__(self, source: ConfigSource) -> None:
        self._source = source
        self.values = ConfigDict()

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            place = Source(self._source.shown, node.lineno)
            self.values.put(node.targets[0].id, self.value(node.value), place)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            raise self._refused(node)

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            made = [self.value(item) for item in node.elts]
            return made if isinstance(node, ast.List) else tuple(made) if isinstance(node, ast.Tuple) else set(made)
        if isinstance(node, ast.Dict):
            keys = [None if key is None else self.value(key) for key in node.keys]
            return self._dict(node, keys, node.values)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Name) and node.id in self.values:
            return self.values[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.value(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return self._sum(node)
        if isinstance(node, ast.Subscript):
            return self.value(node.value)[self.value(node.slice)]
        raise self._refused(node)

    def _call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "dict" and not node.args:
            return self._dict(node, [k.arg for k in node.keywords], [k.value for k in node.keywords])
        if name == "float" and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
            return float(node.args[0].value)  # type: ignore[arg-type]
        raise self._refused(node)

    def _dict(self, node: ast.expr, keys: list[Any], values: list[ast.expr]) -> ConfigDict:
        result = ConfigDict()
        result.source = Source(self._source.shown, node.lineno)
        for key, item in zip(keys, values, strict=True):
            value, place = self.value(item), Source(self._source.shown, item.lineno)
            if key is not None:
                result.put(key, value, place)
            elif isinstance(value, dict):
                result.update(value)
            else:
                raise self._refused(node)
        return result

    def _sum(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Mult):
            sizes = [len(v) for v in (left, right) if isinstance(v, str | list | tuple)]
            counts = [v for v in (left, right) if isinstance(v, int)]
            if sizes and counts and sizes[0] * counts[0] > _LARGEST:
                raise self._refused(node)
        try:
            return _OPERATORS[type(node.op)](left, right)
        except (TypeError, ZeroDivisionError):
            raise self._refused(node) from None

    def _refused(self, node: ast.stmt | ast.expr) -> ConfigError:
        return self._source.error(
            "this config text would have to be run, and a text from a checkpoint is not: give the config file",
            node.lineno,
        )
