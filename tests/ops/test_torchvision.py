"""torchvision's public behaviour with fastdet's kernels in place of its own, in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_torchvision_behaves_as_before_on_our_kernels() -> None:
    pytest.importorskip("torchvision")
    cases = Path(__file__).with_name("torchvision_cases.py")
    command = [sys.executable, "-m", "pytest", str(cases), "-o", "addopts=", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=cases.parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed.group(1)) > 120
    assert "skipped" not in result.stdout
