"""The shipped launch scripts: MMDetection's arguments, torchrun and srun underneath; two processes over gloo."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.integration.commands import ROOT, TINY, environment, fastdet, overrides
from tests.integration.conftest import Trained
from tests.integration.test_train_and_test import rows_of

SCRIPTS = ROOT / "scripts"


def script(name: str, *arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    env = {**environment(), "PYTHON": sys.executable, **variables}
    return subprocess.run(
        [SCRIPTS / name, *map(str, arguments)], capture_output=True, text=True, env=env, timeout=300
    )  # fmt: skip


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A folder with a `srun` and a `python` that print their arguments, one a line."""
    for name in ("srun", "python"):
        (tmp_path / name).write_text("#!/usr/bin/env bash\nprintf '%s\\n' \"$@\"\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_slurm_gets_mmdetections_arguments(recorder: Path) -> None:
    done = script(
        "slurm_train.sh", "gpu", "my job", "c.py", "w", "--cfg-options", "a=[1, 2]",
        PATH=f"{recorder}{os.pathsep}{os.environ['PATH']}", GPUS="16", CPUS_PER_TASK="3", SRUN_ARGS="--qos high",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[: words.index(sys.executable)] == [
        "--partition", "gpu", "--job-name", "my job", "--gres", "gpu:8", "--ntasks", "16", "--ntasks-per-node", "8",
        "--cpus-per-task", "3", "--kill-on-bad-exit=1", "--qos", "high",
    ]  # fmt: skip
    assert words[words.index("-m") :] == [
        "-m", "fastdet.train", "c.py", "--work-dir", "w", "--launcher", "slurm", "--cfg-options", "a=[1, 2]",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["dist_train.sh", "dist_test.sh"])
def test_torchrun_gets_mmdetections_arguments_and_variables(name: str, recorder: Path) -> None:
    given = ["c.py", "k.pth", "4"] if name == "dist_test.sh" else ["c.py", "4"]
    done = script(name, *given, "--amp", PYTHON=str(recorder / "python"), NNODES="2", NODE_RANK="1", PORT="123")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", "1", "--master-addr", "127.0.0.1",
        "--master-port", "123", "--nproc-per-node", "4",
        "-m", f"fastdet.{name[5:-3]}", *given[:-1], "--launcher", "pytorch", "--amp",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["dist_train.sh", "dist_test.sh", "slurm_train.sh"])
def test_too_few_arguments_show_the_usage(name: str) -> None:
    done = script(name, "c.py")
    assert done.returncode == 2
    assert "usage:" in done.stderr


@pytest.mark.slow
def test_two_processes_train_one_model_and_write_once(tmp_path: Path) -> None:
    pairs = overrides("train_dataloader.batch_size=2")
    done = script(
        "dist_train.sh", TINY, 2, "--work-dir", tmp_path, "--device", "cpu", *pairs, PORT=free_port()
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "batch          4 = 2 x 2 x 1" in done.stdout
    assert done.stdout.count("Epoch(val)") == 2
    assert len(list(tmp_path.glob("*.py"))) == 1
    rows = rows_of(tmp_path)
    assert [r["step"] for r in rows if "loss" in r] == [2, 4, 6, 8]
    assert json.loads((tmp_path / "env.json").read_text())["world_size"] == 2
    # The processes' detections are gathered: one process finds the same figures for the same weights, up to the
    # other make-up of batches.
    single = fastdet("test", TINY, tmp_path / "epoch_2.pth", "--work-dir", tmp_path / "t", "--json")
    last = {name: value for name, value in rows[-1].items() if "/" in name}
    assert json.loads(single.out) == pytest.approx(last, abs=1e-3)
    content = torch.load(tmp_path / "epoch_2.pth", weights_only=True)
    assert not any(name.startswith("module.") for name in content["state_dict"])


@pytest.mark.slow
def test_two_processes_test_what_one_process_tests(trained: Trained, tmp_path: Path) -> None:
    """With one image a batch the detections do not depend on who ran them."""
    options = ["--batch-size", "1", "--json", "--work-dir", tmp_path]
    done = script("dist_test.sh", TINY, trained.checkpoint, 2, *options, "--device", "cpu", PORT=free_port())
    assert done.returncode == 0, done.stderr
    single = fastdet("test", TINY, trained.checkpoint, *options)
    assert json.loads(done.stdout) == json.loads(single.out)


@pytest.mark.slow
def test_an_error_in_two_processes_ends_both_with_its_message(tmp_path: Path) -> None:
    done = script(
        "dist_train.sh", TINY, 2, "--work-dir", tmp_path / "w", "--device", "cpu",
        *overrides("optim_wrapper.optimizer.lr=1e12", "param_scheduler=[]"), PORT=free_port(),
    )  # fmt: skip
    assert done.returncode != 0
    assert "the loss became NaN at" in done.stderr
    assert "the bad step was not applied" in done.stderr
