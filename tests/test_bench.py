"""The table of benchmark results."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastdet.bench import Row, main, read_result, roofline_seconds, table


def result_file(folder: Path, **facts: Any) -> Path:
    path = folder / "run.json"
    rows = [("nms, 5 boxes", "torchvision", 0.004), ("nms, 5 boxes", "fastdet", 0.001)]
    content = {
        "benchmarks": [
            {"group": group, "extra_info": {"row": row}, "stats": {"min": seconds}} for group, row, seconds in rows
        ],
        "fastdet": {
            "device": "cpu",
            "hardware": "A processor",
            "threads": 1,
            "commit": "abc",
            "command": "pytest benchmarks",
            "versions": {"torch": "2.11"},
            **facts,
        },
    }
    path.write_text(json.dumps(content))
    return path


def test_rows_are_compared_with_the_first_row_of_their_group(tmp_path: Path) -> None:
    lines = table(read_result(result_file(tmp_path))).splitlines()
    assert lines[0] == "`pytest benchmarks`"
    assert lines[2] == "A processor; 1 thread(s); commit abc; torch 2.11"
    assert lines[-2:] == [
        "| nms, 5 boxes | torchvision | 4.000 | 1.00 |  |",
        "| nms, 5 boxes | fastdet | 1.000 | 4.00 |  |",
    ]


CALIBRATION = {"bytes": 1e9, "cached_bytes": 4e9, "flops": {"fp32": 8e9, "fp16": 80e9}}


def row(seconds: float, device_seconds: float | None, group: str = "roi_align, fp32", **work: float) -> Row:
    return Row(group, "fastdet", seconds, device_seconds, {"bytes": 0, "cached_bytes": 0, "flops": 0, **work})


def test_the_roofline_is_what_takes_longest() -> None:
    assert roofline_seconds(row(1, None, bytes=1e9, cached_bytes=8e9, flops=8e9), CALIBRATION) == 2.0
    assert roofline_seconds(row(1, None, bytes=3e9, cached_bytes=8e9, flops=8e9), CALIBRATION) == 3.0
    assert roofline_seconds(row(1, None, flops=40e9), CALIBRATION) == 5.0
    assert roofline_seconds(row(1, None, "roi_align, fp16", flops=40e9), CALIBRATION) == 0.5
    assert roofline_seconds(row(1, None, "roi_align, bf16", flops=40e9), CALIBRATION) == 5.0  # not calibrated: fp32
    assert roofline_seconds(row(1, None)._replace(work=None), CALIBRATION) is None
    assert roofline_seconds(row(1, None, bytes=1), None) is None


def test_device_times_are_compared_where_both_rows_have_one(tmp_path: Path) -> None:
    result = read_result(result_file(tmp_path, device="cuda", calibration=CALIBRATION))
    rows = (row(0.5, 0.4, bytes=1e8), row(0.3, 0.2, bytes=1e8))
    lines = table(result._replace(rows=rows)).splitlines()
    assert lines[4] == "Calibrated: 1.0 GB/s memory, 4.0 GB/s second-level cache, 8 GFLOP/s fp32, 80 GFLOP/s fp16."
    assert lines[-2] == "| roi_align, fp32 | fastdet | 500.000 | 400.0000 | 1.00 | 25.0 % |"
    assert lines[-1] == "| roi_align, fp32 | fastdet | 300.000 | 200.0000 | 2.00 | 50.0 % |"
    lines = table(result._replace(rows=(row(0.5, None, bytes=1e8), row(0.25, 0.2, bytes=1e8)))).splitlines()
    assert lines[-2] == "| roi_align, fp32 | fastdet | 500.000 | waits | 1.00 | 20.0 % |"
    assert lines[-1] == "| roi_align, fp32 | fastdet | 250.000 | 200.0000 | 2.00 | 50.0 % |"


def test_the_command_prints_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(result_file(tmp_path))]) == 0
    assert "## run\n" in capsys.readouterr().out


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json holds no results"):
        read_result(path)


def test_the_page_of_the_docs_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).resolve().parent.parent
    monkeypatch.chdir(root)
    assert main([]) == 0
    printed = capsys.readouterr().out
    page = (root / "docs" / "benchmarks.md").read_text()
    assert page == printed, "make it again: python -m fastdet.bench > docs/benchmarks.md"
