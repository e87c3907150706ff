"""Commands run as a user runs them: in this process where that will do, or as processes of their own."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path(__file__).parent / "configs"
TINY = CONFIGS / "tiny.py"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums are cut into as many parts as there are threads: equality to the bit needs their number fixed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fastdet(*arguments: object) -> Ended:
    """`fastdet VERB ...` in this process, in one thread; an exception that would show as a traceback fails the test."""
    verb, *rest = map(str, arguments)
    out, err = io.StringIO(), io.StringIO()
    with one_thread(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = importlib.import_module(f"fastdet.{verb}").main(rest)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def environment() -> dict[str, str]:
    """What processes started by tests see: this tree, one thread, no launcher."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def run_process(*arguments: object, cwd: Path | None = None, timeout: float = 300) -> Ended:
    """A process with this Python: `run_process("-m", "fastdet.train", ...)`."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=environment(), timeout=timeout,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def started_process(*arguments: object, cwd: Path | None = None) -> Iterator["subprocess.Popen[str]"]:
    """A running process whose stdout (with stderr) can be read line by line; killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, env=environment(),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def write_config(folder: Path, text: str = "", *, base: Path = TINY, name: str = "config.py") -> Path:
    """A config whose first line names its base; `text` starts in line 2."""
    path = folder / name
    path.write_text(f"_base_ = [{str(base)!r}]\n{text}", encoding="utf-8")
    return path


def overrides(*pairs: str) -> Sequence[str]:
    """`--cfg-options` with its pairs."""
    return ("--cfg-options", *pairs)
