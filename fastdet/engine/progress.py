"""A progress bar for people at a terminal; silent everywhere else, where the log's plain lines do."""

import os
from collections.abc import Callable, Mapping
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress

from fastdet.utils.logging import line_writer

WIDE = 120
"""Columns from which the bar shows every loss; the usual 80 hold the total alone."""


class Progress:
    """One bar an epoch, or one for a run measured in iterations.

    Args:
        stream: where it is drawn.
        enabled: False draws nothing; see `wants_bar`.
    """

    def __init__(self, stream: TextIO | None, *, enabled: bool) -> None:
        self.enabled = enabled
        self._stream = stream
        self._console: Console | None = None
        self._bar: RichProgress | None = None
        self._summary = ""
        if enabled:
            self._console = Console(file=stream, highlight=False)

    @property
    def writer(self) -> Callable[[str], None]:
        """Prints a line, above the bar if one is shown."""
        if self._console is None:
            return line_writer(self._stream)
        console = self._console

        def write(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        return write

    def start(self, title: str, *, total: int, done: int) -> None:
        """Shows a bar of `total` steps of which `done` are over."""
        if self._console is None:
            return
        self.stop()
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20 if self._console.width >= WIDE else 10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=True,
            refresh_per_second=4,
        )
        self._summary = ""
        self._bar.start()
        self._bar.add_task(title, total=total, completed=done, figures="")

    def advance(self) -> None:
        """One step is done."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def show(self, means: Mapping[str, float], *, seconds: float, data_seconds: float, lr: float, eta: str) -> None:
        """Puts the figures of the last logged interval beside the bar."""
        if self._bar is None:
            return
        losses = [f"{name.removeprefix('loss_')} {value:.3f}" for name, value in means.items() if "loss" in name]
        ends = f"lr {lr:.4g}  eta {eta}"
        self._summary = f"{seconds:.2f} s/it (data {data_seconds:.2f})  {' '.join(losses)}  {ends}"
        short = f"{seconds:.2f} s/it  {losses[0]}  {ends}"
        is_wide = self._bar.console.width >= WIDE
        self._bar.update(self._bar.task_ids[0], figures=self._summary if is_wide else short)

    def stop(self) -> None:
        """Takes the bar away and leaves its last figures as a line."""
        if self._bar is None:
            return
        task = self._bar.tasks[0]
        self._bar.stop()
        self._bar = None
        self.writer(f"{task.description}  {int(task.completed)}/{int(task.total or 0)}  {self._summary}")

    def show_validation(self, metrics: Mapping[str, float], note: str) -> None:
        """One line with the first figures of a validation, for the terminal."""
        if self._console is not None:
            figures = "  ".join(f"{name.split('/')[-1]} {value:.3f}" for name, value in list(metrics.items())[:6])
            self.writer(f"  val  {figures}  {note}".rstrip())


def wants_bar(stream: TextIO, environment: Mapping[str, str] | None = None) -> bool:
    """Whether the stream is a terminal that can redraw a line. Colours are rich's matter, which honours NO_COLOR."""
    env = os.environ if environment is None else environment
    return stream.isatty() and env.get("TERM", "") not in ("dumb", "")
