"""Checkpoint files: plain content in MMEngine's layout, and never a half-written one."""

import errno
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdet.engine import Runner
from fastdet.engine.checkpoint import find_last, point_last, read_file, write_file
from fastdet.registry import FrozenDict
from fastdet.utils.errors import CheckpointError, FastdetError
from tests.engine.fakes import FakeLoader, make_detector, make_experiment


def trained(work_dir: Path, **options: Any) -> dict[str, Any]:
    Runner(
        make_experiment(length=1, **options), detector=make_detector(), train_loader=FakeLoader(), work_dir=work_dir,
        config_text="lr = 1\n", classes=("cat", "dog"), palette=[(1, 2, 3), (4, 5, 6)], stream=io.StringIO(),
    ).train()  # fmt: skip
    return read_file(work_dir / "epoch_1.pth")


def test_a_checkpoint_has_mmengines_keys_and_ours(tmp_path: Path) -> None:
    content = trained(tmp_path / "name")
    assert set(content) == {
        "meta", "state_dict", "message_hub", "optimizer", "step_in_epoch", "sampler", "rng", "evaluated_step",
    }  # fmt: skip
    meta = content["meta"]
    assert (meta["epoch"], meta["iter"], meta["seed"], meta["cfg"]) == (1, 5, 3, "lr = 1\n")
    assert meta["experiment_name"] == "name"
    assert meta["dataset_meta"] == {"classes": ["cat", "dog"], "palette": [[1, 2, 3], [4, 5, 6]]}
    assert set(content["message_hub"]) == {"log_scalars", "runtime_info", "resumed_keys"}
    assert content["message_hub"]["runtime_info"]["max_iters"] == 5
    assert set(content["optimizer"]) == {"state", "param_groups"}
    assert (content["step_in_epoch"], content["rng"]["seed"]) == (0, 3)


def test_loss_scaler_and_waiting_gradients_are_in_it_when_there_are_any(tmp_path: Path) -> None:
    content = trained(tmp_path, optimizer_options={"amp": "fp16"})
    assert "scale" in content["optimizer"]["loss_scaler"]
    Runner(
        make_experiment(length=2, optimizer_options={"accumulate": 2}), detector=make_detector(),
        train_loader=FakeLoader(), work_dir=tmp_path / "b", stream=io.StringIO(),
    ).train()  # fmt: skip
    assert "head.weight" in read_file(tmp_path / "b" / "epoch_1.pth")["gradients"]
    assert "gradients" not in read_file(tmp_path / "b" / "epoch_2.pth")


def test_the_optimizers_parameters_are_saved_by_name(tmp_path: Path) -> None:
    content = trained(tmp_path, optimizer_options={"groups": FrozenDict(norm_decay_mult=0.0)})
    names = [group["param_names"] for group in content["optimizer"]["param_groups"]]
    assert names == [["conv.weight", "conv.bias", "head.weight", "head.bias"], ["norm.weight", "norm.bias"]]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    write_file({"value": 1}, path)

    def full(content: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FastdetError, match=r"a\.pth: .*No space left.*\n.*MiB are free"):
        write_file({"value": 2}, path)
    assert read_file(path) == {"value": 1}
    assert os.listdir(tmp_path) == ["a.pth"]


def test_files_that_are_no_checkpoints_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_file(tmp_path / "none.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        read_file(tmp_path / "cut.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="list"):
        read_file(tmp_path / "list.pth")


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"x": Evil()}, tmp_path / "evil.pth", pickle_module=pickle)
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        read_file(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_the_last_checkpoint_is_found_by_its_note(tmp_path: Path) -> None:
    assert find_last(tmp_path) is None
    for name in ("epoch_1.pth", "epoch_2.pth"):
        write_file({}, tmp_path / name)
        point_last(tmp_path / name)
    assert find_last(tmp_path) == tmp_path / "epoch_2.pth"
    assert os.readlink(tmp_path / "latest.pth") == "epoch_2.pth"
    (tmp_path / "epoch_2.pth").unlink()
    with pytest.raises(CheckpointError, match="--resume PATH"):
        find_last(tmp_path)


def test_checkpoints_of_mmengine_resume_at_the_end_of_their_epoch(tmp_path: Path) -> None:
    content = trained(tmp_path / "a")
    theirs = {key: content[key] for key in ("meta", "state_dict", "optimizer")}
    theirs["meta"] = {"epoch": 1, "iter": 5, "mmengine_version": "0.10.7"}
    theirs["optimizer"]["base_param_settings"] = {"lr": 0.05}
    theirs["message_hub"] = {"log_scalars": {}, "runtime_info": {"max_epochs": 3}, "resumed_keys": {}}
    for group in theirs["optimizer"]["param_groups"]:
        group.pop("param_names")
    write_file(theirs, tmp_path / "mm.pth")
    experiment = make_experiment(length=2, resume=True, load_from=str(tmp_path / "mm.pth"))
    loader = FakeLoader()
    Runner(
        experiment, detector=make_detector(1), train_loader=loader, work_dir=tmp_path / "b", stream=io.StringIO()
    ).train()
    assert loader.started == [(1, 0)]
