"""MMDetection's config dialects, 1.x to 3.x, translated into the Experiment. See docs/dialects.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastdet.config.configdict import adopt
from fastdet.config.file import load_config
from fastdet.config.schema import Experiment

from .runtime import IGNORED, READ, warn_of_near_names
from .v2 import OLD_KEYS, upgrade
from .v3 import experiment

__all__ = ["load_experiment", "to_experiment"]


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The Experiment of a config file. A Python config is a program, and this runs it.

    Args:
        overrides: "a.b.0.c=value" strings, as --cfg-options takes them.

    Raises:
        ConfigError: a file that cannot be read, or that does not fit; the message names file, line and fix.
        UnsupportedConfig: a valid config that names what fastdet does not run.
    """
    return to_experiment(load_config(path, overrides))


def to_experiment(cfg: Mapping[str, Any]) -> Experiment:
    """The Experiment of a config that is read already; any mix of the dialects. `cfg` is not changed."""
    read = adopt(dict(cfg) if not isinstance(cfg, dict) else cfg)
    warn_of_near_names(read, OLD_KEYS | READ | frozenset(IGNORED))
    return experiment(upgrade(read))
