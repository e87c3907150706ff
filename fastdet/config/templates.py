"""The `{{ ... }}` templates of config files: file names, environment variables, values of base files."""

import os
import re
from pathlib import Path
from typing import Any

from fastdet.utils.errors import near_names

_BASE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")
_ENVIRONMENT = re.compile(r"\{\{['\"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['\"]?\}\}")


class TemplateProblem(ValueError):
    """A template that has no value; the caller adds file and line."""


def fill(text: str, path: Path) -> str:
    """The text with `{{ fileDirname }}` and kin and `{{$NAME:default}}` replaced by their values.

    Raises:
        TemplateProblem: an environment variable that is not set and has no default.
    """
    values = {
        "fileDirname": path.parent.as_posix(),
        "fileBasename": path.name,
        "fileBasenameNoExtension": path.stem,
        "fileExtname": path.suffix,
    }
    for name, value in values.items():
        text = value.join(re.split(r"\{\{\s*" + name + r"\s*\}\}", text))
    return _ENVIRONMENT.sub(lambda match: environment_value(match[1], match[2]), text)


def environment_value(name: str, default: str) -> str:
    """The variable's value, or else the default of the template."""
    value = os.environ.get(name) or default
    if not value:
        raise TemplateProblem(
            f"the environment variable {name!r} is not set and the template has no default: "
            f"set it, or write {{{{${name}:default}}}}"
        )
    return value


def split_base(text: str) -> list[str]:
    """Text and names in turn: the items at odd positions are the x.y of `{{ _base_.x.y }}`."""
    return _BASE.split(text)


def base_value(base: Any, name: str) -> Any:
    """The value that a dotted name has in the merged base files.

    Raises:
        TemplateProblem: there is no such value.
    """
    value = base
    for position, key in enumerate(name.split(".")):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list | tuple) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            where = ".".join(["_base_", *name.split(".")[:position]])
            known = list(map(str, value)) if isinstance(value, dict) else []
            close = near_names(key, known)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'nothing'}"
            raise TemplateProblem(f"no {key!r} in {where}; {hint}")
    return value
