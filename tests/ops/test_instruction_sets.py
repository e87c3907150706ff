"""The loops for every instruction set give the same results; FASTDET_CPU chooses among them at run time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastdet import _C
from tests.ops.workloads import run_all

SETS = ("baseline", "avx2", "avx512")
# Positions, indices and classes: no rounding may change them.
EXACT = torch.int64


def results_of(instruction_set: str, folder: Path) -> dict[str, Tensor]:
    """What a process with this set computes; skips where the processor has it not."""
    path = folder / f"{instruction_set}.pt"
    script = (
        "import torch; from fastdet import _C; from tests.ops.workloads import run_all; torch.set_num_threads(1); "
        f"torch.save({{'set': _C.build_info()['cpu_kernels'], **run_all()}}, {str(path)!r})"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "FASTDET_CPU": instruction_set, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, env=environment)
    results: dict[str, Tensor] = torch.load(path)
    if results.pop("set") != instruction_set:
        pytest.skip(f"this processor has no {instruction_set}")
    return results


def test_the_widest_set_of_the_processor_is_chosen() -> None:
    assert _C.build_info()["cpu_kernels"] in SETS


@pytest.mark.parametrize("instruction_set", SETS)
def test_every_set_gives_what_the_chosen_one_gives(instruction_set: str, tmp_path: Path) -> None:
    expected, actual = run_all(), results_of(instruction_set, tmp_path)
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        if tensor.dtype == EXACT:
            assert torch.equal(actual[name], tensor), name
        else:
            tolerance = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}.get(tensor.dtype, 2e-5)
            torch.testing.assert_close(actual[name], tensor, rtol=tolerance, atol=tolerance, msg=name)
