"""Downloads: complete or not at all, checked by the hash in their name."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fastdet.utils.downloads import cache_folder, download, file_name, find_cached, search_folders

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTDET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FASTDET_OFFLINE", raising=False)
    return tmp_path


def served(folder: Path, name: str) -> str:
    """A URL (of a file) with the content."""
    (folder / name).write_bytes(CONTENT)
    return (folder / name).as_uri()


@pytest.mark.parametrize("name", ["plain.pth", f"hashed-{DIGEST[:8]}.pth"])
def test_a_file_is_fetched_into_the_cache(name: str, home: Path) -> None:
    path = download(served(home, name))
    assert path == home / "home" / "checkpoints" / name
    assert path.read_bytes() == CONTENT
    assert find_cached([name]) == path
    assert [p.name for p in cache_folder().iterdir()] == [name]


def test_a_content_that_does_not_fit_its_hash_is_thrown_away(home: Path) -> None:
    with pytest.raises(OSError, match=f"SHA-256 starts with {DIGEST[:8]}, not 00000000"):
        download(served(home, "hashed-00000000.pth"))
    assert list(cache_folder().iterdir()) == []


def test_a_failed_download_leaves_nothing(home: Path) -> None:
    with pytest.raises(OSError, match="nosuch"):
        download((home / "nosuch.pth").as_uri())
    assert list(cache_folder().iterdir()) == []


class Cut(BaseHTTPRequestHandler):
    """Promises more than it sends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) + 5))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


def test_a_download_that_breaks_off_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HTTPServer(("127.0.0.1", 0), Cut) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(OSError, match=f"ended after {len(CONTENT)} of {len(CONTENT) + 5} bytes"):
            download(f"http://127.0.0.1:{server.server_port}/plain.pth")
        thread.join()
    assert list(cache_folder().iterdir()) == []


def test_nothing_is_fetched_when_offline(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDET_OFFLINE", "1")
    with pytest.raises(OSError, match="FASTDET_OFFLINE is set"):
        download(served(home, "plain.pth"))


def test_folders_follow_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    assert search_folders() == [home / "home" / "checkpoints", home / "torch" / "hub" / "checkpoints"]
    monkeypatch.delenv("FASTDET_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    assert cache_folder() == home / "cache" / "fastdet" / "checkpoints"


def test_the_file_name_of_a_url_has_no_query() -> None:
    assert file_name("https://a.org/b/c-1.pth?download=1#x") == "c-1.pth"
    assert find_cached(["nosuch.pth"]) is None
