"""What all command lines share: how errors and interrupts end, and the options that several verbs take."""

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

import fastdet
from fastdet.utils.errors import EnvironmentProblem, FastdetError

EXIT_OK, EXIT_USER, EXIT_USAGE, EXIT_ENVIRONMENT, EXIT_VERIFICATION = 0, 1, 2, 3, 4


def run(command: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace) -> int:
    """Runs a command and turns its end into an exit code.

    A FastdetError is printed as one message on stderr, without a traceback unless `--debug` was given. So is a file
    that cannot be read or written.

    Returns:
        0 for success, 1 for a user's mistake, 3 for an environment that lacks something, 130 after Ctrl-C.
    """
    try:
        with short_warnings():
            return command(arguments) or EXIT_OK
    except FastdetError as problem:
        if getattr(arguments, "debug", False):
            traceback.print_exc()
        print(f"error: {problem}", file=sys.stderr)
        return EXIT_ENVIRONMENT if isinstance(problem, EnvironmentProblem) else EXIT_USER
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) went away: that is its right, and no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as problem:
        if problem.filename is None or getattr(arguments, "debug", False):
            raise
        print(f"error: {problem.filename}: {problem.strerror}", file=sys.stderr)
        return EXIT_USER


@contextmanager
def short_warnings() -> Iterator[None]:
    """Shows fastdet's own warnings as one message inside the block, without the line of code that gave them."""
    package = os.path.dirname(fastdet.__file__)

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        if filename.startswith(package):
            print(f"warning: {message}", file=sys.stderr)
        else:
            usual(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        usual, warnings.showwarning = warnings.showwarning, show
        yield


def add_config(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """CFG, --cfg-options and --debug; an optional config needs `parse(..., intermixed=True)`."""
    text = "config file (Python, YAML or JSON); Python configs run code"
    if optional:
        parser.add_argument("config", metavar="CFG", nargs="?", help=f"{text} (default: the one in the checkpoint)")
    else:
        parser.add_argument("config", metavar="CFG", help=text)
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """--cfg-options and --debug."""
    parser.add_argument(
        "--cfg-options", "--options", nargs="+", default=[], metavar="KEY=VALUE",
        help="change config values: a.b.0.c=v; +key=v adds a new key on purpose",
    )  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")


def positive(text: str) -> int:
    """A whole number of at least 1, as argparse's `type`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """--trust-checkpoint."""
    parser.add_argument(
        "--trust-checkpoint", action="store_true",
        help="load checkpoints with types outside the allow-list; this runs the file's code",
    )  # fmt: skip


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """--launcher and the local rank that old launchers pass."""
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none",
        help="how processes were started (default: found from the environment, as torchrun and SLURM set it)",
    )  # fmt: skip
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, *, intermixed: bool = False
) -> argparse.Namespace:
    """The parsed arguments; usage errors exit with 2.

    Args:
        intermixed: options may stand between positional arguments of which some are optional.
    """
    return parser.parse_intermixed_args(argv) if intermixed else parser.parse_args(argv)


def is_config(name: str | None) -> bool:
    """Whether a file's name is a config's."""
    return name is not None and (name.endswith((".py", ".json", ".yaml", ".yml")) or "::" in name)
