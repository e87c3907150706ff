"""Where a process stands among its peers, and two real processes over gloo."""

import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from fastdet.engine import Runner, distributed
from fastdet.engine.checkpoint import read_file
from fastdet.engine.distributed import Placement, find_placement
from fastdet.utils.errors import EnvironmentProblem
from tests.engine.fakes import assert_same_bits, make_experiment
from tests.engine.plain import PlainDetector, WholeLoader

ROOT = Path(__file__).resolve().parents[2]


def test_a_single_process_is_found_without_a_launcher() -> None:
    assert find_placement(environment={}) == Placement(0, 0, 1)
    assert find_placement(environment={"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"})[2] == 1


def test_torchrun_slurm_and_mpi_are_read() -> None:
    torchrun = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}
    assert find_placement(environment=torchrun) == Placement(5, 1, 8)
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
    assert find_placement("slurm", slurm) == Placement(3, 1, 8)
    mpi = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}
    assert find_placement("mpi", mpi) == Placement(2, 0, 4)


def test_a_launcher_whose_variables_are_missing_is_an_error_that_says_how_to_start() -> None:
    with pytest.raises(EnvironmentProblem, match="torchrun"):
        find_placement("pytorch", {"RANK": "0"})


def test_collectives_of_one_process_are_the_identity() -> None:
    values = torch.tensor([1.0, 2.0])
    assert distributed.get_rank() == 0
    assert distributed.get_world_size() == 1
    assert distributed.is_main()
    assert distributed.broadcast_object("x") == "x"
    assert distributed.gather_objects("x") == ["x"]
    for collective in (distributed.maximum_, distributed.mean_, distributed.sum_):
        assert collective(values).tolist() == [1.0, 2.0]
    distributed.barrier()
    module = torch.nn.Linear(1, 1)
    distributed.broadcast_buffers(module)
    assert distributed.wrap(module) is module


PROGRAM = """
    import os, sys, signal
    import torch
    from fastdet.engine import Hook, Runner, distributed
    from tests.engine.fakes import make_experiment
    from tests.engine.plain import HalfLoader, PlainDetector

    work_dir, mode = sys.argv[1:]
    placement = distributed.find_placement()
    distributed.start(placement, torch.device("cpu"))
    rank = distributed.get_rank()

    class Kill(Hook):
        def after_step(self, state):
            # Only one of the processes gets the signal.
            if mode == "kill" and state.step == 6 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    options = {"accumulate": 2} if mode == "accumulate" else {}
    runner = Runner(
        make_experiment(resume=mode == "resume", optimizer_options=options, val_loss=True),
        detector=PlainDetector(seed=rank),
        train_loader=HalfLoader(rank, bad=(1, 2) if mode == "bad" else None), val_loader=HalfLoader(rank),
        evaluate=lambda epoch: {"mAP": 0.1 * (rank + 1)}, work_dir=work_dir, hooks=[Kill()],
    )
    try:
        state = runner.train()
        weights = distributed.gather_objects(state.model.state_dict())
        assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
        assert state.metrics["mAP"] == 0.1
    finally:
        distributed.stop()
"""


def launch(work_dir: Path, mode: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    return subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
            str(program), str(work_dir), mode,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The work directory of an undisturbed run of two processes, and what it printed."""
    folder = tmp_path_factory.mktemp("two_processes")
    result = launch(folder / "two", "train", folder)
    assert result.returncode == 0, result.stderr
    return folder / "two", result.stdout


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_double_batch(tmp_path: Path, two_processes: tuple[Path, str]) -> None:
    work_dir, printed = two_processes
    experiment = make_experiment(batch_size=4, val_loss=True)
    detector = PlainDetector(seed=0)
    state = Runner(
        experiment, detector=detector, train_loader=WholeLoader(), val_loader=WholeLoader(), work_dir=tmp_path / "one",
        stream=io.StringIO(),
    ).train()  # fmt: skip
    two = read_file(work_dir / "epoch_3.pth")
    for name, value in detector.state_dict().items():
        # A mean of two means of 2 against a mean of 4: 15 steps of float32 rounding.
        torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-5, atol=1e-6)
    assert two["rng"]["world_size"] == 2
    assert f"val_loss: {state.metrics['val_loss']:.4f}" in printed
    assert "4 = 2 x 2 x 1 (processes x images x accumulated)" in printed
    assert printed.count("Epoch(train) [1][2/5]") == 1


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_they_resume_bit_for_bit(
    tmp_path: Path, two_processes: tuple[Path, str]
) -> None:
    assert launch(tmp_path / "cut", "kill", tmp_path).returncode != 0
    assert read_file(tmp_path / "cut" / "resume.pth")["meta"]["iter"] in (6, 7)
    result = launch(tmp_path / "cut", "resume", tmp_path)
    assert result.returncode == 0, result.stderr
    whole, cut = (read_file(folder / "epoch_3.pth") for folder in (two_processes[0], tmp_path / "cut"))
    assert_same_bits(whole["state_dict"], cut["state_dict"])
    assert_same_bits(whole["optimizer"], cut["optimizer"])


@pytest.mark.slow
def test_a_bad_batch_of_one_process_stops_both(tmp_path: Path) -> None:
    result = launch(tmp_path / "bad", "bad", tmp_path)
    assert result.returncode != 0
    assert "the loss became NaN at epoch 2, iteration 3 (step 8, rank 1)" in result.stderr
    assert (
        "the loss of another process became NaN or infinite at epoch 2, iteration 3 (step 8, rank 0)" in result.stderr
    )
    assert (tmp_path / "bad" / "nan_batch_rank1.pt").is_file()


@pytest.mark.slow
def test_accumulation_over_two_processes_equals_one_with_the_double_batch(tmp_path: Path) -> None:
    result = launch(tmp_path / "two", "accumulate", tmp_path)
    assert result.returncode == 0, result.stderr
    detector = PlainDetector(seed=0)
    Runner(
        make_experiment(batch_size=4, optimizer_options={"accumulate": 2}), detector=detector,
        train_loader=WholeLoader(), work_dir=tmp_path / "one", stream=io.StringIO(),
    ).train()  # fmt: skip
    two = read_file(tmp_path / "two" / "epoch_3.pth")["state_dict"]
    for name, value in detector.state_dict().items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-6)
