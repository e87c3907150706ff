"""The doctor: facts, problems with their fixes, and exit codes."""

import importlib
import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from fastdet import doctor
from fastdet.utils import environment as env


def test_two_opencv_packages_are_a_problem_with_its_fix() -> None:
    packages = dict.fromkeys(env.REQUIRED, "1") | {"opencv-python": "4.10", "opencv-python-headless": "4.9"}
    (problem,) = env.package_problems(packages)
    assert "opencv-python and opencv-python-headless are both installed" in problem
    assert "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless" in problem


def test_missing_packages_are_problems() -> None:
    packages = dict.fromkeys(env.REQUIRED, "1")
    del packages["pycocotools"]
    assert env.package_problems(packages) == [
        "pycocotools is not installed: pip install pycocotools",
        "OpenCV is not installed: pip install opencv-python-headless",
    ]


def test_an_old_torch_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(__version__="2.9.1+cu128"))
    _, problems = env.load_torch({"torch": "2.9.1"})
    assert problems == ["torch 2.9.1+cu128 is older than 2.11: pip install -U torch torchvision"]


def fake_torch(cuda: str | None) -> Any:
    return SimpleNamespace(__version__="2.11.0", version=SimpleNamespace(cuda=cuda))


def test_another_cuda_version_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    text, (problem,) = env.cuda_state(fake_torch("13.0"), (), {"cuda": "12.8", "cuda_archs": "8.0"})
    assert text == f"built for 8.0 with CUDA 12.8, {env.NEVER_RUN}"
    assert "built with CUDA 12.8, torch 2.11.0 runs CUDA 13.0" in problem


def test_cuda_ops_without_a_gpu_say_that_they_never_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    text, problems = env.cuda_state(fake_torch("13.2"), (), {"cuda": "13.0", "cuda_archs": "8.0;9.0"})
    assert text == "built for 8.0;9.0 with CUDA 13.0, never run on a GPU here"
    assert problems == []


def test_a_gpu_without_cuda_ops_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    text, (problem,) = env.cuda_state(fake_torch("13.0"), ("NVIDIA H100 (9.0)",), {})
    assert text == "not built"
    assert problem.endswith("FASTDET_CUDA=1 pip install --no-build-isolation -e .")


def test_a_gpu_that_the_build_does_not_fit_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(env, "known_case", lambda torch, device: "no kernel image is available")
    _, (problem,) = env.cuda_state(fake_torch("13.0"), ("Tesla T4 (7.5)",), {"cuda": "13.0"})
    assert "the CUDA ops fail on Tesla T4 (7.5) (no kernel image is available)" in problem
    assert 'TORCH_CUDA_ARCH_LIST="7.5"' in problem


def test_facts_of_this_machine_go_to_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.main(["--json"])
    facts = json.loads(capsys.readouterr().out)
    assert code == (3 if facts["problems"] else 0)
    assert facts["cpu_ops"].endswith("known case ok")
    assert facts["packages"]["torch"]


def test_problems_end_with_exit_code_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(env, "package_problems", lambda packages: ["numpy is not installed: pip install numpy"])
    assert doctor.main([]) == 3
    assert "PROBLEM" in capsys.readouterr().out


def run_without(*modules: str) -> subprocess.CompletedProcess[str]:
    """`doctor` in a process where importing the modules fails."""
    script = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {modules!r}: raise ImportError(f'No module named {{name!r}}')\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from fastdet.doctor import main\n"
        "sys.exit(main([]))\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_works_where_the_ops_are_not_built() -> None:
    result = run_without("fastdet._ops", "fastdet._C")
    assert result.returncode == 3
    assert "fastdet._C does not load" in result.stdout
    assert "Build them in the source folder with `pip install --no-build-isolation -e .`" in result.stdout


def test_works_where_torch_does_not_import() -> None:
    result = run_without("torch")
    assert result.returncode == 3
    assert "does not import" in result.stdout


def test_help_answers_without_torch() -> None:
    script = (
        "import sys\nfrom fastdet.doctor import main\n"
        "try: main(['--help'])\nexcept SystemExit: assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
