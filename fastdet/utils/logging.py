"""A run's own logger: MMEngine's line form in a file and on the terminal. No global state."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LINE = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
TERMINAL_DATE = "%m/%d %H:%M:%S"
FILE_DATE = "%Y/%m/%d %H:%M:%S"

FILE_ONLY = {"file_only": True}
"""Pass as `extra=` for lines that a terminal with a progress bar need not show."""


class _CallHandler(logging.Handler):
    """Hands formatted lines to a function, so that a progress bar can print above itself."""

    def __init__(self, write: Callable[[str], None], *, skip_file_only: bool) -> None:
        super().__init__()
        self._write = write
        self._skip_file_only = skip_file_only

    def emit(self, record: logging.LogRecord) -> None:
        if self._skip_file_only and getattr(record, "file_only", False):
            return
        self._write(self.format(record))


def line_writer(stream: TextIO | None) -> Callable[[str], None]:
    """A function that writes a line to the stream (default: stdout) and flushes it."""
    target = sys.stdout if stream is None else stream

    def write(line: str) -> None:
        target.write(line + "\n")
        target.flush()

    return write


def open_logger(
    file: Path | None,
    *,
    write: Callable[[str], None] | None = None,
    bare: bool = False,
    level: int = logging.INFO,
) -> logging.Logger:
    """A logger of its own, known to nobody else: two runs in one process do not share it.

    Args:
        file: where lines are appended; its folder is made. None writes no file.
        write: prints a line on the terminal; None prints nothing.
        bare: the terminal gets the messages without date and level, and without lines marked FILE_ONLY.
        level: lines below it are dropped.
    """
    logger = logging.Logger("fastdet", level)
    if write is not None:
        terminal = _CallHandler(write, skip_file_only=bare)
        terminal.setFormatter(logging.Formatter("%(message)s" if bare else LINE, TERMINAL_DATE))
        logger.addHandler(terminal)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8")
        handler.setFormatter(logging.Formatter(LINE, FILE_DATE))
        logger.addHandler(handler)
    return logger


def close_logger(logger: logging.Logger) -> None:
    """Closes the logger's file."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def forwarded(name: str, receive: Callable[[logging.LogRecord], object]) -> Iterator[None]:
    """Inside the block, hands what is logged under a name, from INFO on, to a function.

    Parts that know no run (metrics) log under a name of their own; this is how their lines reach a run's log.
    """
    source, handler = logging.getLogger(name), logging.Handler(logging.INFO)
    handler.emit = receive  # type: ignore[assignment, method-assign]
    level, propagates = source.level, source.propagate
    source.setLevel(logging.INFO)
    source.propagate = False
    source.addHandler(handler)
    try:
        yield
    finally:
        source.removeHandler(handler)
        source.setLevel(level)
        source.propagate = propagates
