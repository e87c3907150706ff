"""The errors that users see, and near-name suggestions for them."""

import difflib
from collections.abc import Iterable


class FastdetError(Exception):
    """A mistake in what the user gave: config, file, option. Shown as one message without a traceback, exit code 1."""


class ConfigError(FastdetError):
    """A config that cannot be read or does not fit the schema; the message names file, line, value and fix."""


class UnsupportedConfig(ConfigError):
    """A valid config that names a component or setting which fastdet does not run."""


class MissingConfig(ConfigError):
    """A config file that is not there, or one of its base files."""


class DataError(FastdetError):
    """Annotations or images that cannot be used; the message names the file and the record."""


class CheckpointError(FastdetError):
    """A checkpoint that is missing, unsafe to load, or does not fit the model."""


class EnvironmentProblem(FastdetError):
    """A missing build, package or device; exit code 3."""


def near_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names closest to a misspelt one, best first, case ignored."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.6)
    return [by_lower[c] for c in close]


def suggestion(name: str, known: Iterable[str]) -> str:
    """A line such as "did you mean 'depth'?", with every known name when none is close."""
    names = sorted(known)
    close = near_names(name, names)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + (", ".join(names) or "none")
