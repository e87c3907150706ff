"""Files from the network, kept in a local folder: looking them up, and fetching them once."""

import hashlib
import os
import re
import tempfile
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

HOME_VARIABLE = "FASTDET_HOME"
OFFLINE_VARIABLE = "FASTDET_OFFLINE"
_TIMEOUT = 30.0  # Seconds without an answer.
_CHUNK = 1 << 20
# Published weights carry the start of their SHA-256 in the name: resnet50-0676ba61.pth.
_HASHED_NAME = re.compile(r"-([0-9a-f]{8,64})\.[A-Za-z0-9.]+$")


def cache_folder() -> Path:
    """Where downloads are kept: $FASTDET_HOME/checkpoints, by default ~/.cache/fastdet/checkpoints."""
    home = os.environ.get(HOME_VARIABLE)
    return (Path(home).expanduser() if home else _user_cache() / "fastdet") / "checkpoints"


def search_folders() -> list[Path]:
    """The folders in which files are looked up: ours, then that of torch.hub."""
    torch_home = os.environ.get("TORCH_HOME")
    hub = Path(torch_home).expanduser() if torch_home else _user_cache() / "torch"
    return [cache_folder(), hub / "hub" / "checkpoints"]


def find_cached(names: Sequence[str]) -> Path | None:
    """The first of the file names that lies in one of the folders."""
    for name in names:
        for folder in search_folders():
            if (folder / name).is_file():
                return folder / name
    return None


def file_name(url: str) -> str:
    """The last part of the URL's path."""
    return os.path.basename(urlparse(url).path)


def download(url: str) -> Path:
    """Fetches a file into the cache folder; it appears there complete or not at all.

    Raises:
        OSError: no network, no such file, or a content that does not fit the hash in the file's name. Also when
            FASTDET_OFFLINE is set.
    """
    if os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0"):
        raise OSError(f"{OFFLINE_VARIABLE} is set")
    folder, name = cache_folder(), file_name(url)
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    handle, part = tempfile.mkstemp(prefix=f"{name}.", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as target, urllib.request.urlopen(url, timeout=_TIMEOUT) as source:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
            wanted_size = source.headers.get("Content-Length")
            if wanted_size is not None and target.tell() != int(wanted_size):
                raise OSError(f"the connection ended after {target.tell()} of {wanted_size} bytes")
        wanted = _HASHED_NAME.search(name)
        if wanted and not digest.hexdigest().startswith(wanted[1]):
            raise OSError(f"the downloaded file's SHA-256 starts with {digest.hexdigest()[:8]}, not {wanted[1]}")
        os.replace(part, folder / name)
    except HTTPException as problem:
        raise OSError(f"the server's answer is broken: {problem!r}") from problem
    finally:
        Path(part).unlink(missing_ok=True)
    return folder / name


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base).expanduser() if base else Path.home() / ".cache"
