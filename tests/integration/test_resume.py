"""A run that was stopped or killed, and resumed, ends with the weights of the uninterrupted one: bit for bit.

The real detector through the real command. Most stops come from a hook inside this process; the slow tests use
processes of their own and real signals from outside.
"""

import os
import signal
from pathlib import Path

import pytest
import torch

from fastdet.engine.hooks import Hook
from fastdet.engine.state import TrainState
from fastdet.registry import HOOKS
from tests.integration.commands import TINY, Ended, fastdet, overrides, run_process, started_process, write_config

VARIANTS = {
    "plain": "",
    "ema": "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n",
    "accumulation": "optim_wrapper = dict(accumulative_counts=2)\n",
    "bf16": "optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')\n",
}
KILLER = """
import os, signal
from fastdet.engine.hooks import Hook
from fastdet.registry import HOOKS

@HOOKS.register()
class KillSelf(Hook):
    def after_step(self, state):
        if state.step == 6:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@HOOKS.register()
class StopAt(Hook):
    """Sends this process a SIGTERM after a step, as a cluster does when its time is up."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, state: TrainState) -> None:
        if state.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def train(config: Path, work_dir: Path, *more: object) -> Ended:
    return fastdet("train", config, "--work-dir", work_dir, *more)


def assert_same_end(one: Path, two: Path) -> None:
    a, b = (torch.load(folder / "epoch_2.pth", weights_only=True) for folder in (one, two))
    assert list(a["state_dict"]) == list(b["state_dict"])
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name]), name
    for index, values in a["optimizer"]["state"].items():
        for name, value in values.items():
            assert torch.equal(value, b["optimizer"]["state"][index][name]), (index, name)
    for name, value in a.get("ema_state_dict", {}).items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(b["ema_state_dict"][name])), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_stopped_in_mid_epoch_ends_as_the_uninterrupted_one(variant: str, tmp_path: Path) -> None:
    text = VARIANTS[variant]
    whole = write_config(tmp_path, text, name="whole.py")
    hook = "[dict(type='StopAt', step=5)]"
    hooks = text.replace("[dict(type='EMAHook'", f"{hook} + [dict(type='EMAHook'")
    stopped = write_config(tmp_path, hooks if "custom_hooks" in hooks else f"{text}custom_hooks = {hook}\n")

    assert train(whole, tmp_path / "a").code == 0
    ended = train(stopped, tmp_path / "b")
    assert ended.code == 128 + signal.SIGTERM
    assert "continue with --resume" in ended.out
    position = torch.load(tmp_path / "b" / "resume.pth", weights_only=True)
    # The step that is under way when the signal comes is finished; here it is the second of two accumulated ones.
    assert (position["meta"]["epoch"], position["step_in_epoch"]) == (1, 2)
    ended = train(whole, tmp_path / "b", "--resume")
    assert ended.code == 0, ended.err
    assert "continuing after epoch 1, batch" in ended.out
    assert_same_end(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b" / "resume.pth").exists()


def test_a_run_without_a_seed_keeps_the_one_it_drew(tmp_path: Path) -> None:
    config = write_config(tmp_path, "custom_hooks = [dict(type='StopAt', step=2)]\nrandomness = dict(seed=None)\n")
    assert train(config, tmp_path / "b", "--no-validate").code == 128 + signal.SIGTERM
    seed = torch.load(tmp_path / "b" / "resume.pth", weights_only=True)["meta"]["seed"]
    whole = write_config(tmp_path, "randomness = dict(seed=None)\n", name="whole.py")
    ended = train(whole, tmp_path / "b", "--no-validate", "--resume")
    assert f"seed {seed}" in ended.out
    assert "not bit for bit" not in ended.out
    assert train(whole, tmp_path / "a", "--no-validate", "--seed", seed).code == 0
    assert_same_end(tmp_path / "a", tmp_path / "b")


def test_resuming_where_nothing_is_starts_anew_and_says_so(tmp_path: Path) -> None:
    ended = train(TINY, tmp_path / "new", "--resume", "--no-validate", *overrides("train_cfg.max_epochs=1"))
    assert ended.code == 0, ended.err
    assert "nothing to resume" in ended.out
    assert (tmp_path / "new" / "epoch_1.pth").is_file()


def test_a_named_checkpoint_is_resumed_into_another_folder(tmp_path: Path) -> None:
    assert train(TINY, tmp_path / "a", "--no-validate").code == 0
    ended = train(TINY, tmp_path / "b", "--no-validate", "--resume", tmp_path / "a" / "epoch_1.pth")
    assert ended.code == 0, ended.err
    assert "continuing after epoch 1" in ended.out
    assert_same_end(tmp_path / "a", tmp_path / "b")


def test_the_2x_spellings_of_resume_mean_the_same(tmp_path: Path) -> None:
    one_epoch = overrides("train_cfg.max_epochs=1")
    assert train(TINY, tmp_path / "a", "--no-validate", *one_epoch).code == 0
    for words in (("--auto-resume",), ("--resume-from", tmp_path / "a" / "epoch_1.pth")):
        ended = train(TINY, tmp_path / "a", "--no-validate", *words, *one_epoch)
        assert ended.code == 0, ended.err
        assert "continuing after epoch 1" in ended.out


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_sigterm_from_outside_saves_and_the_resumed_run_ends_the_same(workers: int, tmp_path: Path) -> None:
    """The stop falls on whichever step is running; the uninterrupted run reads without workers."""
    options = overrides("default_hooks.logger.interval=1", f"train_dataloader.num_workers={workers}")
    assert train(TINY, tmp_path / "a", *overrides("default_hooks.logger.interval=1")).code == 0
    with started_process("-m", "fastdet.train", TINY, "--work-dir", tmp_path / "b", *options) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Epoch(train) [2][1/4]" in line:
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
        assert process.wait(60) == 128 + signal.SIGTERM, rest
    assert "Traceback" not in rest
    assert "continue with --resume" in rest
    assert (tmp_path / "b" / "resume.pth").is_file()
    ended = run_process("-m", "fastdet.train", TINY, "--work-dir", tmp_path / "b", "--resume", *options)
    assert ended.code == 0, ended.err
    assert_same_end(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_a_killed_run_continues_from_its_last_checkpoint_and_ends_the_same(tmp_path: Path) -> None:
    """SIGKILL in epoch 2: nothing is saved, epoch 1's file counts. The killing hook is a user's own module."""
    (tmp_path / "killer.py").write_text(KILLER)
    lines = "custom_imports = dict(imports=['killer'])\ncustom_hooks = [dict(type='KillSelf')]\n"
    config = write_config(tmp_path, lines)
    assert train(TINY, tmp_path / "a").code == 0
    killed = run_process("-m", "fastdet.train", config, "--work-dir", tmp_path / "b", cwd=tmp_path)
    assert killed.code == -signal.SIGKILL
    assert not (tmp_path / "b" / "epoch_2.pth").exists()
    ended = run_process("-m", "fastdet.train", TINY, "--work-dir", tmp_path / "b", "--resume", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "epoch_1.pth: continuing after epoch 1" in ended.out
    assert_same_end(tmp_path / "a", tmp_path / "b")
