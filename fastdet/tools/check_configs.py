"""`python -m fastdet.tools.check_configs DIR`: builds the detector of every config below a folder, without memory.

Prints how many were built, how many of these have the keys and shapes of a list, and what is unsupported. The exit code
is 1 if a config fails without a clear refusal, or is built with other keys than listed. Python configs run code.
"""

import argparse
import contextlib
import gzip
import importlib
import json
import multiprocessing
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from fastdet.tools.coverage import Coverage, Outcome
from fastdet.utils.cli import EXIT_OK, EXIT_USER, parse, positive, run
from fastdet.utils.errors import ConfigError

_ARCHIVES = (".whl", ".zip")
_WHEEL_FOLDER = "/.mim/configs/"


def main(argv: Sequence[str] | None = None) -> int:
    """Checks the configs; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdet.tools.check_configs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a folder of configs, or an MMDetection wheel")
    parser.add_argument(
        "--keys", type=Path, metavar="MANIFEST",
        help="names and shapes to compare with: .jsonl or .jsonl.gz, a line a config:\n"
        '{"config": "family/name.py", "keys": {"weight": [64, 3, 7, 7], ...}}',
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead, with a record of each config")
    parser.add_argument("--families", action="store_true", help="count by family (first folder) too")
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return run(_check, parse(parser, argv))


def _check(arguments: argparse.Namespace) -> int:
    manifest = read_manifest(arguments.keys) if arguments.keys else {}
    with _configs_of(arguments.folder) as root:
        files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*.py"))}
        tasks = [(path, name, manifest.get(name)) for name, path in files.items() if "_base_" not in path.parts]
        if not tasks:
            raise ConfigError(f"no configs (*.py) below {arguments.folder}")
        coverage = Coverage(outcomes=tuple(_outcomes(tasks, arguments.workers)))
    if arguments.json:
        print(json.dumps(coverage.to_dict(), indent=1))
    else:
        print(coverage.table(families=arguments.families), end="")
    return EXIT_OK if coverage.good else EXIT_USER


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """The records of a manifest by config.

    Raises:
        ConfigError: a line that is no record.
    """
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path, encoding="utf-8") as lines:
        try:
            records = [json.loads(line) for line in lines if line.strip()]
            return {record["config"]: record for record in records}
        except (ValueError, KeyError, TypeError, OSError) as problem:
            raise ConfigError(f'{path} is no manifest: {problem!r}; a line is {{"config": ..., "keys": ...}}') from None


@contextlib.contextmanager
def _configs_of(folder: Path) -> Iterator[Path]:
    """The folder itself, or one with the unpacked configs of a wheel."""
    if folder.is_dir():
        yield folder
        return
    if folder.suffix not in _ARCHIVES or not folder.is_file():
        raise ConfigError(f"{folder} is neither a folder nor a wheel")
    with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(folder) as archive:
        names = [name for name in archive.namelist() if _WHEEL_FOLDER in name]
        if not names:
            raise ConfigError(f"{folder} holds no folder {_WHEEL_FOLDER.strip('/')}")
        archive.extractall(place, names)
        package, _, _ = names[0].partition(_WHEEL_FOLDER)
        yield Path(place) / package / _WHEEL_FOLDER.strip("/")


def _outcomes(tasks: Sequence[tuple[Path, str, Mapping[str, Any] | None]], workers: int) -> Iterator[Outcome]:
    # Building needs torch; --help does not.
    check = importlib.import_module("fastdet.tools.config_check").check_config
    if workers == 1:
        yield from (check(*task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        # Neighbours share networks, which a process builds once.
        yield from pool.map(check, *zip(*tasks, strict=True), chunksize=max(1, min(16, len(tasks) // workers)))


if __name__ == "__main__":
    sys.exit(main())
