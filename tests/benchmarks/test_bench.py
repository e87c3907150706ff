"""The table of benchmark results."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastdet.bench import main, read_result, table


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
    assert lines[-2:] == ["| nms, 5 boxes | torchvision | 4.000 | 1.00 |", "| nms, 5 boxes | fastdet | 1.000 | 4.00 |"]


def test_the_command_prints_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(result_file(tmp_path))]) == 0
    assert "## run\n" in capsys.readouterr().out


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json holds no results"):
        read_result(path)
