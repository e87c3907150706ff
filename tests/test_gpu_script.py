"""benchmarks/gpu.sh where there is no GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu.sh"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_ends_with_3_and_names_the_dry_mode(tmp_path: Path) -> None:
    result = subprocess.run(["bash", SCRIPT, tmp_path, sys.executable], capture_output=True, text=True, check=False)
    assert result.returncode == 3
    assert "torch sees no GPU here: run with --dry" in result.stdout
    assert len(list(tmp_path.iterdir())) <= 8
