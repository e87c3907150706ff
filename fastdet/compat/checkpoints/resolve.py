"""From what a config names as weights to a file on this machine."""

import os
from pathlib import Path
from urllib.error import URLError

from fastdet.compat.checkpoints.weight_files import DETECTRON2_FOLDER, OLDER_FILES, URLS
from fastdet.utils.downloads import cache_folder, download, file_name, find_cached, search_folders
from fastdet.utils.errors import CheckpointError, near_names

# Spellings of MMCV's first years.
_SCHEMES = {"modelzoo://": "torchvision://", "openmmlab://": "open-mmlab://"}
_DETECTRON2 = "detectron2://"


def resolve(name: str | os.PathLike[str], *, asked_by: str | None = None) -> Path:
    """The file that holds the weights: a path, a file of the cache, or a fresh download.

    Args:
        name: a path, a URL, or a name such as `torchvision://resnet50`, `open-mmlab://detectron2/resnet50_caffe` or
            `detectron2://ImageNetPretrained/MSRA/R-50.pkl`.
        asked_by: the config key that names the weights (`model.backbone.init_cfg`), for the message.

    Raises:
        CheckpointError: no such file, or no network; names the file, the folders to put it in, and the key that
            switches it off.
    """
    text = os.fspath(name)
    for old, new in _SCHEMES.items():
        text = text.replace(old, new, 1) if text.startswith(old) else text
    if text.startswith(("http://", "https://")):
        return _fetched(text, str(name), asked_by)
    if text.startswith(_DETECTRON2):
        return _fetched(DETECTRON2_FOLDER + text.removeprefix(_DETECTRON2), str(name), asked_by)
    if "://" in text:
        if text not in URLS:
            close = near_names(text, URLS)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "known: " + ", ".join(sorted(URLS))
            raise CheckpointError(f"unknown weights {str(name)!r}\n  {hint}{_switch_off(asked_by)}")
        return _fetched(URLS[text], str(name), asked_by)
    path = Path(text).expanduser()
    if path.is_file():
        return path
    cached = find_cached([text]) if path.name == text else None
    if cached is not None:
        return cached
    raise CheckpointError(f"checkpoint not found: {text}{_close_files(path)}{_switch_off(asked_by)}")


def _fetched(url: str, name: str, asked_by: str | None) -> Path:
    """The file of that URL, from the cache or the network."""
    file = file_name(url)
    names = [file, *([OLDER_FILES[file]] if file in OLDER_FILES else [])]
    cached = find_cached(names)
    if cached is not None:
        return cached
    try:
        return download(url)
    except OSError as problem:
        reason = problem.reason if isinstance(problem, URLError) else problem
        others = "".join(f" or {_shown(folder)}" for folder in search_folders()[1:])
        raise CheckpointError(
            f"{name!r} is not cached and cannot be downloaded: {reason}\n"
            f"  put {file} into {_shown(cache_folder())}{others}{_switch_off(asked_by)}\n"
            f"  it is published at {url}"
        ) from None


def _switch_off(asked_by: str | None) -> str:
    return f"\n  or start without it: {asked_by}=None" if asked_by else ""


def _shown(folder: Path) -> str:
    """The folder with the home directory as ~."""
    try:
        return f"~/{folder.relative_to(Path.home()).as_posix()}"
    except ValueError:
        return str(folder)


def _close_files(path: Path) -> str:
    if path.is_dir():
        return " is a folder: name the .pth file in it"
    if not path.parent.is_dir():
        return f"\n  there is no folder {path.parent}"
    close = near_names(path.name, [p.name for p in path.parent.iterdir() if p.is_file()])
    return f"\n  did you mean {' or '.join(repr(str(path.parent / c)) for c in close)}?" if close else ""
