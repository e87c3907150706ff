"""Prints the benchmark results as tables: `python -m fastdet.bench [RESULT.json ...]`.

Results are made by `pytest benchmarks --benchmark-json benchmarks/results/NAME.json`; the page docs/benchmarks.md is
what this command prints.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

RESULTS = Path("benchmarks") / "results"

HEAD = """# Benchmarks

Printed by `python -m fastdet.bench > docs/benchmarks.md` from `benchmarks/results`. Each figure is the fastest of its
rounds; the ratio is to the first row of the workload, on the same inputs in the same process. With one thread the clock
is the thread's processor time. Only ratios within one table mean something.
"""


class Row(NamedTuple):
    """One implementation of one workload; seconds is the fastest of its rounds."""

    group: str
    name: str
    seconds: float


class Result(NamedTuple):
    """One run of the benchmarks, with where and how it was made."""

    device: str
    hardware: str
    threads: int
    commit: str
    command: str
    versions: dict[str, str]
    rows: tuple[Row, ...]


def read_result(path: Path) -> Result:
    """Reads what a run left.

    Raises:
        ValueError: The file holds no results of fastdet's benchmarks.
    """
    content = json.loads(path.read_text())
    if "fastdet" not in content:
        raise ValueError(f"{path} holds no results of fastdet's benchmarks: run pytest on the `benchmarks` folder")
    facts = content["fastdet"]
    rows = tuple(
        Row(entry["group"], entry["extra_info"]["row"], entry["stats"]["min"]) for entry in content["benchmarks"]
    )
    return Result(**{name: facts[name] for name in Result._fields if name != "rows"}, rows=rows)


def table(result: Result) -> str:
    """A Markdown table: each workload's rows with their ratio to the first one, the peer."""
    lines = [
        f"`{result.command}`",
        "",
        f"{result.hardware}; {result.threads} thread(s); commit {result.commit}; "
        + ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        "",
        "| workload | implementation | ms | times the peer |",
        "|---|---|---:|---:|",
    ]
    peers: dict[str, float] = {}
    for row in sorted(result.rows, key=lambda row: row.group):
        peer = peers.setdefault(row.group, row.seconds)
        lines.append(f"| {row.group} | {row.name} | {row.seconds * 1e3:.3f} | {peer / row.seconds:.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastdet.bench", description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="*", type=Path, help=f"JSON files; by default those in {RESULTS}")
    paths: Iterable[Path] = parser.parse_args(arguments).results or sorted(RESULTS.glob("*.json"))
    print(HEAD)
    for path in paths:
        print(f"## {path.stem}\n\n{table(read_result(path))}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
