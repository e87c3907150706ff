"""Reading checkpoint files of every layout, safely."""

import datetime
import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fastdet.compat.checkpoints import StandIn, load_checkpoint
from fastdet.utils.errors import CheckpointError

Save = Callable[..., Path]
Forget = Callable[[], None]


def checkpoint_3x(weights: dict[str, torch.Tensor], foreign: dict[str, type]) -> dict[str, Any]:
    return {
        "meta": {
            "epoch": 12,
            "iter": 7330,
            "cfg": "model = dict(type='FasterRCNN')",
            "seed": np.int64(5),
            "time": "20230101_000000",
            "mmengine_version": "0.10.7",
            "dataset_meta": {"CLASSES": ("car", "truck"), "palette": [(0, 0, 1), (0, 0, 2)]},
        },
        "state_dict": weights,
        "message_hub": {
            "log_scalars": OrderedDict({"train/loss": foreign["HistoryBuffer"]([0.5, 0.25])}),
            "runtime_info": OrderedDict({"best_score": np.float64(0.3), "when": datetime.datetime(2023, 1, 1)}),
        },
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.02, "params": [0]}]},
        "param_schedulers": [{"last_step": 3}],
    }


def checkpoint_2x(weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {
        "meta": {
            "env_info": "sys.platform: linux",
            "config": "model = dict(type='FasterRCNN')",
            "seed": None,
            "epoch": 12,
            "iter": 87960,
            "mmcv_version": "1.7.0",
            "mmdet_version": "2.28.2",
            "CLASSES": ("person", "bicycle"),
            "hook_msgs": {"best_score": 0.4},
        },
        "state_dict": weights,
        "optimizer": {"state": {}, "param_groups": []},
    }


def assert_same(loaded: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert list(loaded) == list(wanted)
    assert all(torch.equal(loaded[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_3x_training_checkpoint_is_read_without_mmengine(
    zipped: bool, save: Save, foreign: dict[str, type], forget: Forget, network: nn.Module
) -> None:
    path = save(checkpoint_3x(network.state_dict(), foreign), _use_new_zipfile_serialization=zipped)
    forget()
    checkpoint = load_checkpoint(path)
    assert_same(checkpoint.state_dict, network.state_dict())
    assert checkpoint.classes == ("car", "truck")
    assert checkpoint.meta["epoch"] == 12
    assert checkpoint.meta["seed"] == 5
    assert checkpoint.optimizer == {"state": {}, "param_groups": [{"lr": 0.02, "params": [0]}]}
    assert checkpoint.extras["param_schedulers"] == [{"last_step": 3}]
    assert checkpoint.extras["message_hub"]["runtime_info"]["best_score"] == 0.3
    buffer = checkpoint.extras["message_hub"]["log_scalars"]["train/loss"]
    assert isinstance(buffer, StandIn)
    assert buffer.type_name == "mmengine.logging.history_buffer.HistoryBuffer"
    assert buffer.state["_log_history"].tolist() == [0.5, 0.25]
    assert buffer.state["statistics_methods"] == {"mean": "mmengine.logging.history_buffer.HistoryBuffer.mean"}


def test_a_2x_training_checkpoint_is_read(save: Save, network: nn.Module) -> None:
    checkpoint = load_checkpoint(save(checkpoint_2x(network.state_dict())))
    assert_same(checkpoint.state_dict, network.state_dict())
    assert checkpoint.classes == ("person", "bicycle")
    assert checkpoint.meta["mmdet_version"] == "2.28.2"
    assert checkpoint.raw_weights == {}


def test_dicts_and_values_of_other_packages_become_plain(
    save: Save, foreign: dict[str, type], forget: Forget, network: nn.Module
) -> None:
    stored = foreign["ConfigDict"](a=1, b={"c": 2})
    stored.__dict__["frozen"] = False
    content = checkpoint_2x(network.state_dict())
    content["meta"] |= {
        "config": stored,
        "counts": defaultdict(list, {"a": [1]}),
        "path": Path("work/dir"),
        "array": np.arange(3, dtype=np.float32),
        "names": np.array(["a", "b"]),
        "when": datetime.timedelta(seconds=3),
    }
    path = save(content)
    forget()
    meta = load_checkpoint(path).meta
    assert meta["config"] == {"a": 1, "b": {"c": 2}}
    assert meta["counts"] == {"a": [1]}
    assert str(meta["path"]) == "work/dir"
    assert meta["array"].tolist() == [0.0, 1.0, 2.0]
    assert meta["names"].tolist() == ["a", "b"]
    assert meta["when"].total_seconds() == 3


def test_other_types_are_refused_by_name_and_read_if_trusted(
    save: Save, foreign: dict[str, type], forget: Forget, network: nn.Module
) -> None:
    content = checkpoint_3x(network.state_dict(), foreign) | {"mine": foreign["Anything"]()}
    path = save(content)
    forget()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "types outside the allow-list: my_package.thing.Anything\n" in str(caught.value)
    assert "--trust-checkpoint" in str(caught.value)
    trusted = load_checkpoint(path, trust=True)
    assert_same(trusted.state_dict, network.state_dict())
    assert repr(trusted.extras["mine"]) == "<stored my_package.thing.Anything>"


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made_by_a_checkpoint",)


class Sneaky:
    """Reaches for an attribute of a permitted type."""

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (dict, "__subclasses__")


@pytest.mark.parametrize("attack", [Malicious(), Sneaky()], ids=["mkdir", "getattr"])
def test_code_in_a_file_does_not_run(
    attack: object, save: Save, network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save({"state_dict": network.state_dict(), "x": attack})
    with pytest.raises(CheckpointError, match="--trust-checkpoint"):
        load_checkpoint(path)
    assert not Path("made_by_a_checkpoint").exists()


def test_prefixes_of_wrappers_are_stripped_and_versions_kept(save: Save, network: nn.Module) -> None:
    wrapped = nn.DataParallel(network).state_dict()
    assert next(iter(wrapped)).startswith("module.")
    checkpoint = load_checkpoint(save({"state_dict": wrapped}))
    assert_same(checkpoint.state_dict, network.state_dict())
    assert checkpoint.state_dict._metadata == network.state_dict()._metadata


@pytest.mark.parametrize("section", [None, "model"])
def test_plain_state_dicts_are_read(section: str | None, save: Save, network: nn.Module) -> None:
    weights = network.state_dict()
    checkpoint = load_checkpoint(save(weights if section is None else {section: weights, "epoch": 3}))
    assert_same(checkpoint.state_dict, weights)
    assert checkpoint.classes == ()


def test_shadow_buffers_of_2x_hold_the_trained_weights(save: Save, network: nn.Module) -> None:
    averaged = network.state_dict()
    shadows = {f"ema_{name.replace('.', '_')}": value + 1 for name, value in averaged.items()}
    checkpoint = load_checkpoint(save(checkpoint_2x(OrderedDict(**averaged, **shadows))))
    assert_same(checkpoint.state_dict, averaged)
    assert_same(checkpoint.raw_weights, {name: value + 1 for name, value in averaged.items()})


def test_the_averaging_section_of_3x_holds_the_trained_weights(
    save: Save, foreign: dict[str, type], network: nn.Module
) -> None:
    averaged = network.state_dict()
    raw = {f"module.{name}": value + 1 for name, value in averaged.items()} | {"steps": torch.tensor(3)}
    checkpoint = load_checkpoint(save(checkpoint_3x(averaged, foreign) | {"ema_state_dict": raw}))
    assert_same(checkpoint.state_dict, averaged)
    assert_same(checkpoint.raw_weights, {name: value + 1 for name, value in averaged.items()})
    assert "ema_state_dict" not in checkpoint.extras


def test_safetensors_files_are_read_with_their_metadata(tmp_path: Path, network: nn.Module) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model.safetensors"
    safetensors.save_file(network.state_dict(), path, metadata={"CLASSES": '["a", "b"]', "note": "text"})
    checkpoint = load_checkpoint(path)
    assert checkpoint.state_dict.keys() == network.state_dict().keys()
    assert torch.equal(checkpoint.state_dict["head.weight"], network.state_dict()["head.weight"])
    assert checkpoint.classes == ("a", "b")
    assert checkpoint.meta["note"] == "text"


def test_files_that_are_no_checkpoints_are_named(save: Save, tmp_path: Path, network: nn.Module) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"broken.pth"):
        load_checkpoint(broken)
    whole = save(network.state_dict(), "cut.pth")
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"cut.pth is damaged"):
        load_checkpoint(whole)
    with pytest.raises(CheckpointError, match="holds no checkpoint but a list"):
        load_checkpoint(save([1, 2]))
    with pytest.raises(CheckpointError, match="holds no weights; its sections: meta, results"):
        load_checkpoint(save({"meta": {}, "results": []}))
