"""A run that was stopped and resumed ends with the bits of one that was not."""

import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdet.config.schema import Checkpoints, Ema, Experiment
from fastdet.engine import Hook, Runner, TrainState
from fastdet.engine.checkpoint import read_file, resumed_seed
from fastdet.registry import FrozenDict, Spec
from fastdet.utils.errors import CheckpointError
from tests.engine.fakes import FakeLoader, assert_same_bits, make_detector, make_experiment

ROOT = Path(__file__).resolve().parents[2]
SCHEDULE = (
    Spec.of("LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=6),
    Spec.of("CosineAnnealingLR", T_max=3, eta_min=0.001, begin=0, end=3),
)


class Crash(Exception):
    """Stands for a power cut: the engine has no chance to do anything."""


class StopAt(Hook):
    """Raises, or sends a signal to this process, after a step."""

    def __init__(self, step: int, signal_number: int | None = None) -> None:
        self.step = step
        self.signal_number = signal_number

    def after_step(self, state: TrainState) -> None:
        if state.step == self.step:
            if self.signal_number is None:
                raise Crash
            os.kill(os.getpid(), self.signal_number)


def run(work_dir: Path, experiment: Experiment, *, seed: int = 0, **options: Any) -> TrainState:
    """Trains; the detector starts from other weights for another seed, so a resumed one must load all of them."""
    arguments = {"train_loader": FakeLoader(), "stream": io.StringIO(), **options}
    return Runner(experiment, detector=make_detector(seed), work_dir=work_dir, **arguments).train()


def outcome(work_dir: Path, name: str = "epoch_3.pth") -> dict[str, Any]:
    """What a run left in its last checkpoint, but for times and places."""
    content = read_file(work_dir / name)
    info = content["message_hub"]["runtime_info"]
    for key in ("last_ckpt", "best_ckpt"):
        info.pop(key, None)
    for key in ("time", "experiment_name"):
        content["meta"].pop(key)
    return content


CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw": {"optimizer": Spec.of("AdamW", lr=0.01, weight_decay=0.05, amsgrad=True)},
    "ema": {"ema": Ema(kind="exponential", momentum=0.01, gamma=10, update_buffers=True)},
    "groups and clipping": {
        "optimizer_options": {
            "groups": FrozenDict(norm_decay_mult=0.0, bias_lr_mult=2.0),
            "clip": FrozenDict(max_norm=0.5),
        }
    },
    "fp16": {"optimizer_options": {"amp": "fp16", "initial_loss_scale": 64.0}},
    "bf16": {"optimizer_options": {"amp": "bf16"}},
    "accumulation": {"optimizer_options": {"accumulate": 4}},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("signal_step", [8, 10])
def test_a_run_stopped_by_sigterm_and_resumed_ends_bit_for_bit_the_same(
    tmp_path: Path, case: str, signal_step: int
) -> None:
    # Step 8 lies inside the second epoch of 5 batches, step 10 at its end.
    options = {"schedule": SCHEDULE, **CASES[case]}
    run(tmp_path / "whole", make_experiment(**options))
    with pytest.raises(SystemExit) as exit_info:
        run(tmp_path / "cut", make_experiment(**options), hooks=[StopAt(signal_step, signal.SIGTERM)])
    assert exit_info.value.code == 143
    position = read_file(tmp_path / "cut" / "resume.pth")
    assert position["meta"]["epoch"] * 5 + position["step_in_epoch"] == position["meta"]["iter"] >= signal_step
    run(tmp_path / "cut", make_experiment(resume=True, **options), seed=1)
    assert_same_bits(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))
    assert not (tmp_path / "cut" / "resume.pth").exists()


@pytest.mark.parametrize("case", ["sgd", "ema", "accumulation", "fp16"])
def test_a_run_that_died_goes_on_from_its_last_checkpoint(tmp_path: Path, case: str) -> None:
    options = {"schedule": SCHEDULE, **CASES[case]}
    run(tmp_path / "whole", make_experiment(**options))
    with pytest.raises(Crash):
        run(tmp_path / "cut", make_experiment(**options), hooks=[StopAt(8)])
    assert (tmp_path / "cut" / "latest.pth").resolve().name == "epoch_1.pth"
    loader = FakeLoader()
    run(tmp_path / "cut", make_experiment(resume=True, **options), seed=1, train_loader=loader)
    assert loader.started == [(1, 0), (2, 0)]
    assert_same_bits(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))


def test_positions_saved_by_the_clock_are_as_good_as_any(tmp_path: Path) -> None:
    run(tmp_path / "whole", make_experiment())
    with pytest.raises(Crash):
        run(tmp_path / "cut", make_experiment(), hooks=[StopAt(8)], minutes=1e-9)
    assert read_file(tmp_path / "cut" / "resume.pth")["meta"]["iter"] == 7
    loader = FakeLoader()
    run(tmp_path / "cut", make_experiment(resume=True), seed=1, train_loader=loader)
    assert loader.started == [(1, 2), (2, 0)]
    assert_same_bits(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))


def test_a_run_by_iterations_resumes_inside_an_epoch(tmp_path: Path) -> None:
    def experiment(**options: Any) -> Experiment:
        return make_experiment(unit="iter", length=12, checkpoints=Checkpoints(unit="iter", interval=4), **options)

    run(tmp_path / "whole", experiment())
    with pytest.raises(Crash):
        run(tmp_path / "cut", experiment(), hooks=[StopAt(10)])
    loader = FakeLoader()
    run(tmp_path / "cut", experiment(resume=True), seed=1, train_loader=loader)
    assert loader.started == [(1, 3), (2, 0)]
    assert_same_bits(outcome(tmp_path / "whole", "iter_12.pth"), outcome(tmp_path / "cut", "iter_12.pth"))


def test_ctrl_c_exits_with_130_and_a_position(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as exit_info:
        run(tmp_path, make_experiment(), hooks=[StopAt(3, signal.SIGINT)])
    assert exit_info.value.code == 130
    assert (tmp_path / "latest.pth").resolve().name == "resume.pth"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    class Twice(Hook):
        def after_step(self, state: TrainState) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, make_experiment(), hooks=[Twice()])
    assert not (tmp_path / "resume.pth").exists()


def test_a_signal_during_validation_does_not_wait_for_its_end_and_resuming_repeats_it(tmp_path: Path) -> None:
    seen: list[int] = []

    def interrupted(epoch: int) -> dict[str, float]:
        seen.append(epoch)
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"mAP": epoch / 10}

    def evaluate(epoch: int) -> dict[str, float]:
        seen.append(epoch)
        return {"mAP": epoch / 10}

    options: dict[str, Any] = {"checkpoints": Checkpoints(save_best="mAP"), "ema": Ema(momentum=0.1)}
    run(tmp_path / "whole", make_experiment(**options), evaluate=evaluate)
    seen.clear()
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", make_experiment(**options), evaluate=interrupted)
    run(tmp_path / "cut", make_experiment(resume=True, **options), evaluate=evaluate, seed=1)
    assert seen == [1, 2, 2, 3]
    assert_same_bits(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))


def test_the_best_of_before_is_remembered_and_replaced(tmp_path: Path) -> None:
    scores = {1: 0.5, 2: 0.4, 3: 0.6}
    experiment = make_experiment(checkpoints=Checkpoints(save_best="auto", keep=1))
    with pytest.raises(Crash):
        run(tmp_path, experiment, evaluate=lambda e: {"mAP": scores[e]}, hooks=[StopAt(12)])
    assert (tmp_path / "best_mAP_epoch_1.pth").is_file()
    resumed = make_experiment(checkpoints=Checkpoints(save_best="auto", keep=1), resume=True)
    run(tmp_path, resumed, evaluate=lambda e: {"mAP": scores[e]})
    assert sorted(p.name for p in tmp_path.glob("*_*.pth")) == ["best_mAP_epoch_3.pth", "epoch_3.pth"]


def test_resuming_without_a_checkpoint_starts_anew_and_says_so(tmp_path: Path) -> None:
    stream = io.StringIO()
    state = run(tmp_path, make_experiment(resume=True, length=1), stream=stream)
    assert state.step == 5
    assert "nothing to resume" in stream.getvalue()


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    run(tmp_path, make_experiment())
    before = (tmp_path / "epoch_3.pth").read_bytes()
    state = run(tmp_path, make_experiment(resume=True), seed=1)
    assert state.step == 15
    assert (tmp_path / "epoch_3.pth").read_bytes() == before


def test_a_named_checkpoint_is_taken_and_a_moved_folder_still_resumes(tmp_path: Path) -> None:
    run(tmp_path / "a", make_experiment())
    stream = io.StringIO()
    run(tmp_path / "b", make_experiment(resume=True, load_from=str(tmp_path / "a" / "epoch_2.pth")), stream=stream)
    assert "epoch_2.pth: continuing after epoch 2, batch 0" in stream.getvalue()
    (tmp_path / "a").rename(tmp_path / "moved")
    assert run(tmp_path / "moved", make_experiment(resume=True)).step == 15


def test_the_seed_of_the_run_is_read_without_its_weights(tmp_path: Path) -> None:
    run(tmp_path, make_experiment(seed=77, length=1))
    assert resumed_seed(make_experiment(resume=True, seed=None).runtime, tmp_path) == 77
    assert resumed_seed(make_experiment(resume=False).runtime, tmp_path) is None
    assert resumed_seed(make_experiment(resume=True).runtime, tmp_path / "none") is None


def test_another_batch_size_continues_at_the_same_share_of_the_epoch(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, make_experiment(), hooks=[StopAt(6, signal.SIGTERM)], train_loader=FakeLoader(4))
    position = read_file(tmp_path / "resume.pth")
    assert (position["meta"]["epoch"], position["step_in_epoch"]) == (1, 3)
    loader, stream = FakeLoader(8), io.StringIO()
    state = run(tmp_path, make_experiment(resume=True), train_loader=loader, stream=stream)
    assert loader.started == [(1, 6), (2, 0)]
    assert state.step == 24
    assert "not bit for bit the same run" in stream.getvalue()


def test_weights_of_another_model_are_refused_with_the_names(tmp_path: Path) -> None:
    run(tmp_path, make_experiment(length=1))
    detector = make_detector()
    detector.head = torch.nn.Linear(4, 3)
    detector.extra = torch.nn.Linear(1, 1)
    runner = Runner(
        make_experiment(resume=True), detector=detector, train_loader=FakeLoader(), work_dir=tmp_path,
        stream=io.StringIO(),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"2 missing: extra.weight, extra.bias\n  2 of other shape: head.weight"):
        runner.train()


def test_a_best_checkpoint_cannot_be_resumed_and_the_error_says_what_can(tmp_path: Path) -> None:
    run(tmp_path, make_experiment(checkpoints=Checkpoints(save_best="auto")), evaluate=lambda e: {"mAP": 0.1})
    experiment = make_experiment(resume=True, load_from=str(tmp_path / "best_mAP_epoch_1.pth"))
    with pytest.raises(CheckpointError, match="load_from"):
        run(tmp_path / "b", experiment)


def test_the_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    run(tmp_path, make_experiment(length=1))
    experiment = make_experiment(resume=True, optimizer_options={"groups": FrozenDict(bias_lr_mult=2.0)})
    with pytest.raises(CheckpointError, match="paramwise_cfg"):
        run(tmp_path, experiment)


PROGRAM = """
    import os, signal, sys, time
    from tests.engine.fakes import FakeLoader, make_detector, make_experiment
    from fastdet.engine import Hook, Runner

    class Announce(Hook):
        def after_step(self, state):
            if state.step == 8:
                print("step 8", flush=True)
                time.sleep(0.3)

    runner = Runner(
        make_experiment(), detector=make_detector(), train_loader=FakeLoader(), work_dir=sys.argv[1],
        hooks=[Announce()], minutes=1e-9,
    )
    runner.train()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_was_killed_is_continued_bit_for_bit(tmp_path: Path, number: int, code: int) -> None:
    run(tmp_path / "whole", make_experiment())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "cut")],
        stdout=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while "step 8" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    process.stdout.read()
    assert process.wait() == code
    run(tmp_path / "cut", make_experiment(resume=True), seed=1)
    assert_same_bits(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))
