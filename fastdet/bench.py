"""Prints the benchmark results as tables: `python -m fastdet.bench [RESULT.json ...]`; `bench export` times deployment.

Results are made by `pytest benchmarks --benchmark-json benchmarks/results/NAME.json`; the page docs/benchmarks.md is
what this command prints.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastdet.utils import cli

RESULTS = Path("benchmarks") / "results"

HEAD = """# Benchmarks

Printed by `python -m fastdet.bench > docs/benchmarks.md` from `benchmarks/results`. Each figure is the fastest of its
rounds; the ratio is to the first row of the workload, on the same inputs in the same process. With one thread the clock
is the thread's processor time. Only ratios within one table mean something. Rows of mmcv and mmdet need an environment
with those beside fastdet; they are skipped in another.

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


ROWS = ("torchvision", "eager", "torch", "onnxruntime", "tensorrt", "tensorrt_rtx")
"""Ways to run a detector; torchvision's own detector of the same architecture is what the others are compared with."""


def export_parser() -> argparse.ArgumentParser:
    """The options of `bench export`."""
    p = argparse.ArgumentParser(
        prog="fastdet bench export", description="Time a detector in every way in which it runs here."
    )
    p.add_argument("configs", nargs="+", metavar="CFG", help="configs; Python configs run code")
    p.add_argument("--shape", nargs=2, type=cli.positive, metavar=("H", "W"),
                   help="of the input (default 800 1344 on a GPU, 320 320 on the CPU)")  # fmt: skip
    p.add_argument(
        "--batch", nargs="+", type=cli.positive, help="images at once (default 1 8 32 on a GPU, 1 on the CPU)"
    )
    p.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="which ways (default: all)")
    p.add_argument("--seconds", type=float, default=5.0, help="of each way at each batch (default 5)")
    p.add_argument("--threads", type=cli.positive, default=1, help="on the CPU (default 1)")
    p.add_argument("--output", metavar="X.json", help="write all times")
    p.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    cli.add_device(p)
    return p


def export_command(options: argparse.Namespace) -> int:
    """Times what the options describe."""
    from fastdet import benching  # torch is imported here, so that --help answers at once

    return benching.run(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["export"]:
        return cli.run(export_command, cli.parse(export_parser(), given[1:]))
    parser = argparse.ArgumentParser(prog="python -m fastdet.bench", description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="*", type=Path, help=f"JSON files; by default those in {RESULTS}")
    paths: Iterable[Path] = parser.parse_args(given).results or sorted(RESULTS.glob("*.json"))
    print(HEAD)
    for path in paths:
        print(f"## {path.stem}\n\n{table(read_result(path))}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
