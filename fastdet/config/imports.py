"""`custom_imports` of a config: which modules it asks for, and importing them."""

import importlib
import os
import sys
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.utils.errors import ConfigError


def custom_import_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The module names in `custom_imports`, empty without it.

    Raises:
        ConfigError: `custom_imports` has another form than dict(imports=[...], allow_failed_imports=False).
    """
    section = config.get("custom_imports")
    if not section:
        return ()
    place = f"\n  {config.place('custom_imports')}" if isinstance(config, ConfigDict) else ""
    form = "write custom_imports=dict(imports=['package.module'], allow_failed_imports=False)"
    if not isinstance(section, Mapping) or not section.keys() <= {"imports", "allow_failed_imports"}:
        raise ConfigError(f"custom_imports must be a dict with the key 'imports', not {section!r}: {form}{place}")
    names = section.get("imports") or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise ConfigError(f"custom_imports.imports must be a module name or a list of them, not {names!r}{place}")
    return tuple(names)


def run_custom_imports(config: Mapping[str, Any]) -> tuple[ModuleType, ...]:
    """Imports the modules that `custom_imports` names, so that they register their parts.

    Modules are found as in `python -m`: on PYTHONPATH and in the working folder.

    Returns:
        The modules; those that failed are left out (with a warning) if the config says `allow_failed_imports=True`.

    Raises:
        ConfigError: a module that cannot be imported; names the module and the reason.
    """
    names = custom_import_names(config)
    if names and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except Exception as problem:
            reason = f"{type(problem).__name__}: {problem}"
            if isinstance(problem, ImportError) and config["custom_imports"].get("allow_failed_imports", False):
                warnings.warn(f"custom_imports: {name!r} is left out, it failed to import: {reason}", stacklevel=2)
                continue
            place = f"\n  {config.place('custom_imports')}" if isinstance(config, ConfigDict) else ""
            raise ConfigError(
                f"custom_imports: module {name!r} cannot be imported: {reason}{place}\n"
                "  modules are searched on PYTHONPATH and in the working folder; name the module, not a class in it"
            ) from problem
    return tuple(modules)
