"""Finding config files: paths, paths relative to the file that names them, and `mmdet::family/file.py` names."""

import importlib.util
import os
from pathlib import Path

from fastdet.utils.errors import MissingConfig, near_names

PATH_VARIABLE = "FASTDET_CONFIG_PATH"


def find_config(name: str, folder: Path) -> Path:
    """The file that a name stands for.

    Args:
        name: a path, relative to `folder` unless absolute, or `package::path` (the suffix may be left out).

    Raises:
        MissingConfig: there is no such file; names the places looked at and close file names.
    """
    if "::" in name:
        return _find_shipped(name)
    path = Path(os.path.normpath(folder / Path(name).expanduser()))
    if path.is_file():
        return path
    raise MissingConfig(f"config file not found: {shown_path(path)}{_close_files(path)}")


def config_folders(package: str) -> list[Path]:
    """Folders that may hold the configs of a package: our own, the user's, an installed distribution's."""
    folders = []
    if package in ("mmdet", "fastdet"):
        here = Path(__file__).resolve().parents[2]
        folders.append(here / "configs")
        folders += [Path(p).expanduser() for p in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if p]
    # For a top-level package, find_spec looks for the files and runs none of them.
    spec = importlib.util.find_spec(package)
    folders += [Path(p) / ".mim" / "configs" for p in (spec.submodule_search_locations or ())] if spec else []
    return [f for f in folders if f.is_dir()]


def shown_path(path: Path) -> str:
    """The path as messages show it: relative to the working folder if it lies below."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def _find_shipped(name: str) -> Path:
    package, _, rest = name.partition("::")
    folders = config_folders(package) if package.isidentifier() else []
    for folder in folders:
        for candidate in (folder / rest, folder / f"{rest}.py"):
            if candidate.is_file():
                return Path(os.path.normpath(candidate))
    places = "".join(f"\n  looked in {shown_path(f)}" for f in folders)
    hints = [_close_files(f / rest) for f in folders]
    hint = next((h for h in hints if "did you mean" in h), max(hints, default="", key=len))
    raise MissingConfig(
        f"no config {rest!r} of the package {package!r}{places}{hint}\n"
        f"  folders with more configs can be named in the environment variable {PATH_VARIABLE}"
    )


def _close_files(path: Path) -> str:
    """A line with the files of the same folder, or the neighbouring folders, whose names are close."""
    if path.parent.is_dir():
        close = near_names(path.name, [p.name for p in path.parent.iterdir() if p.is_file()])
        return f"\n  did you mean {' or '.join(map(repr, close))}?" if close else ""
    if path.parent.parent.is_dir():
        close = near_names(path.parent.name, [p.name for p in path.parent.parent.iterdir() if p.is_dir()])
        return f"\n  there is no folder {shown_path(path.parent)}" + (f"; close: {', '.join(close)}" if close else "")
    return f"\n  there is no folder {shown_path(path.parent)}"
