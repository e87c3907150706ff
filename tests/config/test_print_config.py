"""`fastdet config`: resolved configs on the screen and in files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastdet.config.file import load_config
from fastdet.tools.print_config import main


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.py").write_text("model = dict(type='A', depth=50)")
    Path("a.py").write_text("_base_ = 'base.py'\nlr = 0.1")
    return tmp_path / "a.py"


def test_the_resolved_config_is_printed_with_overrides(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a.py", "--cfg-options", "model.depth=18", "+new=[1,2]"]) == 0
    assert capsys.readouterr().out == "model = dict(type='A', depth=18)\nlr = 0.1\nnew = [1, 2]\n"


def test_it_is_written_to_a_file_that_loads(config: Path) -> None:
    assert main(["a.py", "--save-path", "out/b.py"]) == 0
    assert load_config("out/b.py") == load_config("a.py")
    assert main(["a.py", "--save-path", "out/b.json"]) == 0
    assert json.loads(Path("out/b.json").read_text()) == load_config("a.py") == load_config("out/b.json")


def test_mistakes_end_with_one_message_and_code_1(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a.py", "--options", "mdel.depth=18"]) == 1
    assert capsys.readouterr().err.startswith("error: --cfg-options mdel.depth=18 : the config has no key 'mdel'")
    assert main(["a.py", "--save-path", "b.txt"]) == 1
    assert main(["nosuch.py"]) == 1


def test_help_does_not_import_torch() -> None:
    code = "import sys; from fastdet.tools.print_config import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
