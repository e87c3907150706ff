"""Prints the benchmark results as tables: `python -m fastdet.bench [RESULT.json ...]`.

Results are made by `pytest benchmarks --benchmark-json benchmarks/results/NAME.json`; the page docs/benchmarks.md is
what this command prints.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path("benchmarks") / "results"

HEAD = """# Benchmarks

Printed by `python -m fastdet.bench > docs/benchmarks.md` from `benchmarks/results`. Each figure is the fastest of its
rounds; the ratio is to the first row of the workload, on the same inputs in the same process. With one thread the clock
is the thread's processor time. Only ratios within one table mean something.

The roofline is the time that the machine, as calibrated beside each run, needs at least: for the bytes that must come
from memory, for those that must come from caches, or for the arithmetic, whichever takes longest. The share is that
time over the measured one. On a GPU, ms is the wall time of a call that the host waits for, and device ms the time of
its replay in a CUDA graph, from which ratio and share are taken where both rows have it; a call that "waits" for the
device itself has none.
"""


class Row(NamedTuple):
    """One implementation of one workload; seconds is the fastest of its rounds."""

    group: str
    name: str
    seconds: float
    device_seconds: float | None
    work: Mapping[str, float] | None  # bytes, cached_bytes, flops that the workload needs at least


class Result(NamedTuple):
    """One run of the benchmarks, with where and how it was made."""

    device: str
    hardware: str
    threads: int
    commit: str
    command: str
    versions: dict[str, str]
    calibration: Mapping[str, Any] | None  # rates a second of bytes, cached_bytes, and of flops by type
    rows: tuple[Row, ...]


def read_result(path: Path) -> Result:
    """Reads what a run left.

    Raises:
        ValueError: The file holds no results of fastdet's benchmarks.
    """
    content = json.loads(path.read_text())
    if "fastdet" not in content:
        raise ValueError(f"{path} holds no results of fastdet's benchmarks: run pytest on the `benchmarks` folder")
    facts = {"calibration": None, **content["fastdet"]}
    rows = tuple(
        read_row(entry["group"], entry["extra_info"], entry["stats"]["min"]) for entry in content["benchmarks"]
    )
    return Result(**{name: facts[name] for name in Result._fields if name != "rows"}, rows=rows)


def read_row(group: str, extra: Mapping[str, Any], seconds: float) -> Row:
    """A row from what pytest-benchmark keeps of it."""
    return Row(group, extra["row"], seconds, extra.get("device_seconds"), extra.get("work"))


def roofline_seconds(row: Row, calibration: Mapping[str, Any] | None) -> float | None:
    """The least time for the row's work; None where work or calibration is not known.

    The type of the arithmetic is the last word of the group, as in "nms, 5000 boxes, fp32".
    """
    if row.work is None or calibration is None:
        return None
    times = [row.work["bytes"] / calibration["bytes"], row.work["cached_bytes"] / calibration["cached_bytes"]]
    rates = calibration["flops"]
    times.append(row.work["flops"] / rates.get(row.group.rsplit(" ", 1)[-1], rates["fp32"]))
    return max(times)


def table(result: Result) -> str:
    """A Markdown table: each workload's rows with their ratio to the first one, the peer, and their roofline share."""
    on_gpu = result.device == "cuda"
    lines = [
        f"`{result.command}`",
        "",
        f"{result.hardware}; {result.threads} thread(s); commit {result.commit}; "
        + ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        "",
        *describe_calibration(result.calibration),
        f"| workload | implementation | ms |{' device ms |' if on_gpu else ''} times the peer | of the roofline |",
        f"|---|---|---:|{'---:|' if on_gpu else ''}---:|---:|",
    ]
    peers: dict[str, Row] = {}
    for row in sorted(result.rows, key=lambda row: row.group):
        peer = peers.setdefault(row.group, row)
        ratio = seconds_to_compare(peer, row) / seconds_to_compare(row, peer)
        least = roofline_seconds(row, result.calibration)
        cells = [row.group, row.name, f"{row.seconds * 1e3:.3f}"]
        if on_gpu:
            cells.append("waits" if row.device_seconds is None else f"{row.device_seconds * 1e3:.4f}")
        share = "" if least is None else f"{100 * least / (row.device_seconds or row.seconds):.1f} %"
        lines.append("| " + " | ".join([*cells, f"{ratio:.2f}", share]) + " |")
    return "\n".join(lines)


def seconds_to_compare(row: Row, other: Row) -> float:
    """The row's device time where both rows have one, else its wall time."""
    if row.device_seconds is None or other.device_seconds is None:
        return row.seconds
    return row.device_seconds


def describe_calibration(calibration: Mapping[str, Any] | None) -> list[str]:
    """One line and an empty one, or nothing."""
    if calibration is None:
        return []
    flops = ", ".join(f"{rate / 1e9:.0f} GFLOP/s {name}" for name, rate in calibration["flops"].items())
    memory, cache = (calibration[name] / 1e9 for name in ("bytes", "cached_bytes"))
    return [f"Calibrated: {memory:.1f} GB/s memory, {cache:.1f} GB/s second-level cache, {flops}.", ""]


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
