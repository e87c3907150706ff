"""Ctrl-C and SIGTERM: the first asks the run to save and end, the second Ctrl-C ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """Raised inside `at_once` blocks when a signal comes."""


class Interrupt:
    """Remembers the signal that came. `number` is 0 until then."""

    def __init__(self) -> None:
        self.number = 0
        self._process = os.getpid()
        self._raising = False
        self._old: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator["Interrupt"]:
        """Catches SIGINT and SIGTERM inside the block; only the main thread of a process can."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number.value] = signal.signal(number, self._handle)
        try:
            yield self
        finally:
            for value, old in self._old.items():
                signal.signal(value, old)
            self._old.clear()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Work that need not be finished: a signal inside the block raises Interrupted there."""
        self._raising = True
        try:
            if self.number:
                raise Interrupted
            yield
        finally:
            self._raising = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked data worker: a Ctrl-C reaches the whole group, and the run still needs its batches
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        if self._raising:
            self._raising = False
            raise Interrupted
