"""The commands as a shell sees them: help without torch, exit codes, messages without tracebacks."""

import subprocess
import sys

import pytest

from fastdet.__main__ import VERBS, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_answers_without_importing_torch(verb: str) -> None:
    code = (
        "import sys, runpy; sys.modules['torch'] = None; sys.argv = ['x', '--help']; "
        f"runpy.run_module({VERBS[verb][0]!r}, run_name='__main__')"
    )
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_without_a_verb_the_verbs_are_listed_and_the_exit_code_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "train" in capsys.readouterr().out


def test_an_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "'trian'" in capsys.readouterr().err


def test_a_missing_config_is_one_line_and_exit_code_1() -> None:
    result = run("-m", "fastdet.train", "no/such/config.py")
    assert result.returncode == 1
    assert "no/such/config.py" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_option_exits_with_2() -> None:
    assert run("-m", "fastdet.train", "x.py", "--no-such-option").returncode == 2
