"""The table of tests of the ops: complete, true, and on the page."""

import inspect
import re
from pathlib import Path

import pytest

from fastdet import ops
from tests.ops import coverage, test_registration, workloads

ROOT = Path(__file__).parents[2]
DESCRIPTIONS = {"BoxCode", "DetectedBoxes", "Levels", "Rivals", "nms_levels", "top_indices", "rpn_proposals"}


def test_every_op_has_a_row() -> None:
    public = {name for name in ops.__all__ if not name.endswith("_code")} - DESCRIPTIONS
    assert set(coverage.TESTS) == public


@pytest.mark.parametrize("op", coverage.TESTS)
def test_named_tests_exist_and_know_the_op(op: str) -> None:
    for column in coverage.COLUMNS:
        cell = coverage.test_of(op, column)
        if coverage.is_test(cell):
            module, name = cell.split(".")
            assert re.search(rf"^def {name}\(", (ROOT / f"tests/ops/{module}.py").read_text(), re.MULTILINE), cell
    kernel = {"roi_pool": "roi_max_pool"}.get(op, op)
    assert kernel in test_registration.CASES
    compiled = inspect.getsource(test_registration)
    assert f"ops.{op}(" in compiled
    assert f"ops.{op}(" in inspect.getsource(workloads) or f"ops.{op}," in inspect.getsource(workloads)
    if coverage.test_of(op, "autocast") == coverage.FOR_ALL["autocast"]:
        assert op in test_registration.COORDINATES


def test_the_page_is_current() -> None:
    page = (ROOT / "docs/ops.md").read_text()
    assert page == coverage.page(), "run `python -m tests.ops.coverage > docs/ops.md`"
