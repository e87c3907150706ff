"""MMDetection's own configs for tests: unpacked wheels, pairs of the releases by weight file, differences."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fastdet.compat import load_experiment
from fastdet.config.schema import Experiment

FAMILIES = ("faster_rcnn", "mask_rcnn", "retinanet")
MISSING = "-"


def weight_files(root: Path) -> dict[str, str]:
    """The config (its path under `root`) of each weight file that the metafiles of FAMILIES name."""
    found: dict[str, str] = {}
    for family in FAMILIES:
        config = ""
        for line in (root / family / "metafile.yml").read_text().splitlines():
            if match := re.match(r"\s*Config: configs/(\S+)", line):
                config = match[1]
            elif match := re.match(r"\s*Weights: \S*/(\S+)", line):
                found[match[1]] = config
    return found


def pairs(old: Path, new: Path) -> list[tuple[str, str]]:
    """Configs of 2.28.2 and 3.3.0 that share a weight file."""
    first, second = weight_files(old), weight_files(new)
    return sorted((first[name], second[name]) for name in first.keys() & second.keys())


@cache
def load(path: Path) -> Experiment:
    return load_experiment(path)


def differences(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted paths at which two trees of dicts and lists differ, with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from differences(a.get(key, MISSING), b.get(key, MISSING), f"{path}.{key}" if path else key)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{path}.{index}")
    elif a != b:
        yield path, a, b
