"""Reading config files in MMDetection's styles, text and pure Python: `load_config`.

A Python config runs as Python code when it is read, as in MMDetection: read only files that you trust.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from fastdet.config.configdict import ConfigDict, adopt, plain
from fastdet.config.data_file import DataFile
from fastdet.config.imported import spelled_out
from fastdet.config.locate import find_config, shown_path
from fastdet.config.merge import merge
from fastdet.config.overrides import apply_overrides, parse_overrides
from fastdet.config.pure_python import PurePythonFile, is_pure_python
from fastdet.config.python_file import PythonFile
from fastdet.config.rewrite import ConfigSource
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError, MissingConfig

__all__ = ["ConfigDict", "load_config", "plain"]


def load_config(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    known: Callable[[tuple[str, ...]], bool] | None = None,
) -> ConfigDict:
    """The values of a config file, merged with its base files' and changed by overrides.

    Args:
        path: a .py, .json, .yaml or .yml file, or a name such as `mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py`.
        overrides: `key.path=value` texts; `+key.path=value` adds a key that nobody knows.
        known: tells whether the schema knows a key path that the file lacks; default: MMDetection's usual keys.

    Raises:
        ConfigError: a file that is missing, malformed, circular or contradicts its bases, or an override that is
            refused; the message names file, line and fix.
        MissingConfig: the file, or one of its bases, is not there.
    """
    config = spelled_out(_read(find_config(os.fspath(path), Path.cwd()), ()))
    return apply_overrides(config, parse_overrides(overrides), known=known) if overrides else config


def _read(path: Path, chain: tuple[Path, ...]) -> ConfigDict:
    """One file with what it has from its bases; `chain` holds the files that led here.

    Classes that a pure-Python config imports are `Imported`s in it.
    """
    if path in chain:
        circle = [*chain[chain.index(path) :], path]
        raise ConfigError("config files inherit in a circle:\n  " + "\n  -> ".join(shown_path(p) for p in circle))
    shown = shown_path(path)
    if path.suffix not in (".py", ".json", ".yaml", ".yml"):
        raise ConfigError(f"a config must be a .py, .json, .yaml or .yml file, not {shown}")
    if path.suffix != ".py":
        return _merged(DataFile(path, shown), path, shown, chain)
    source = ConfigSource(path.read_text(encoding="utf-8"), str(path), shown)
    if not is_pure_python(source.tree):
        return _merged(PythonFile(path, source), path, shown, chain)
    file = PurePythonFile(path, source)
    own = file.run([_read(base.path, (*chain, path)) for base in file.bases()])
    _warn_if_deprecated(own.pop("_deprecation_", None), shown)
    return _adopted(own, shown)


def _merged(file: PythonFile | DataFile, path: Path, shown: str, chain: tuple[Path, ...]) -> ConfigDict:
    """A file in the text style, merged with the files that its `_base_` names."""
    base = ConfigDict()
    for name in file.bases():
        try:
            found = find_config(name, path.parent)
        except MissingConfig as problem:
            raise MissingConfig(f"{problem}\n  named as _base_ in {shown}") from None
        values = spelled_out(_read(found, (*chain, path)))
        _refuse_duplicates(base, values, shown)
        base.update(values)
    own = file.run(base)
    _warn_if_deprecated(own.pop("_deprecation_", None), shown)
    return _adopted(merge(base, own), shown)


def _adopted(config: ConfigDict, shown: str) -> ConfigDict:
    result: ConfigDict = adopt(config)
    result.source = Source(shown, 1)
    return result


def _refuse_duplicates(base: ConfigDict, values: ConfigDict, shown: str) -> None:
    for key in values:
        if key in base:
            raise ConfigError(
                f"{key!r} stands in two base files of {shown}:\n  {base.place(key)}\n  {values.place(key)}\n"
                "  remove one, or let one of the files be the other's _base_"
            )


def _warn_if_deprecated(notice: object, shown: str) -> None:
    if isinstance(notice, dict):
        instead = f"; use {notice['expected']} instead" if "expected" in notice else ""
        more = f" (see {notice['reference']})" if "reference" in notice else ""
        warnings.warn(f"the config {shown} is deprecated{instead}{more}", FutureWarning, stacklevel=3)
