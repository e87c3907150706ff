"""`fastdet ckpt`: what is told of a file, and what is written."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from fastdet.build import build_detector
from fastdet.compat import load_experiment
from fastdet.compat.checkpoints import load_checkpoint
from fastdet.tools.ckpt import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A training file of 3.x with an average, an optimizer and a config."""
    weights = {"backbone.conv.weight": torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last)}
    weights["head.bias"] = torch.arange(100.0)[:3]
    content = {
        "meta": {
            "epoch": 3,
            "iter": np.int64(30),
            "cfg": "model = dict(type='RetinaNet')",
            "mmengine_version": "0.10.7",
            "dataset_meta": {"classes": ("cat", "dog", "cow"), "palette": [(1, 2, 3)]},
        },
        "state_dict": weights,
        "optimizer": {"state": {0: torch.zeros(1000)}},
        "ema_state_dict": {"module.head.bias": torch.ones(3), "steps": torch.tensor(5)},
        "param_schedulers": [],
    }
    path = tmp_path / "epoch_3.pth"
    torch.save(content, path)
    return path


@pytest.fixture
def tiny_config(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A detector of a few thousand weights."""
    monkeypatch.setenv("SHAPES_ROOT", "data/shapes")
    return Path(__file__).resolve().parents[1] / "integration" / "configs" / "tiny.py"


def detector_weights(config: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = build_detector(load_experiment(config)).state_dict()
    return dict(weights)


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_info_tells_origin_classes_and_content(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", file, "--keys") == 0
    shown = capsys.readouterr().out
    for line in (
        "written by      MMDetection 3.x",
        "iter            30",
        "weights         2 tensors, 27 numbers",
        "classes         3: cat, dog, cow",
        "moving average  in the weights",
        "optimizer       stored",
        "other sections  param_schedulers",
        "backbone.conv.weight  [2, 3, 2, 2]  float32",
    ):
        assert line in shown


def test_info_prints_the_stored_config_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", file, "--config") == 0
    assert capsys.readouterr().out == "model = dict(type='RetinaNet')\n"


def test_published_files_carry_their_hash_and_nothing_of_the_training(file: Path, tmp_path: Path) -> None:
    assert run("publish", file, tmp_path / "out" / "retina-01234567.pth") == 0
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == f"retina-{hashlib.sha256(written.read_bytes()).hexdigest()[:8]}.pth"
    content = torch.load(written, weights_only=True)
    assert content.keys() == {"meta", "state_dict"}
    assert content["meta"]["iter"] == 30
    for value in content["state_dict"].values():
        assert value.is_contiguous()
        assert value.untyped_storage().nbytes() == value.numel() * 4
    assert torch.equal(content["state_dict"]["head.bias"], torch.arange(3.0))


def test_publishing_twice_gives_the_same_file(file: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run("publish", file, tmp_path / "out" / "a") == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_safetensors_and_back_keep_weights_and_description(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    assert run("convert", file, tmp_path / "a.safetensors") == 0
    assert run("convert", tmp_path / "a.safetensors", tmp_path / "b.pth") == 0
    first, last = load_checkpoint(file), load_checkpoint(tmp_path / "b.pth")
    assert last.classes == ("cat", "dog", "cow")
    assert last.meta["epoch"] == 3
    assert first.state_dict.keys() == last.state_dict.keys()
    for name, value in first.state_dict.items():
        assert torch.equal(value, last.state_dict[name])


def test_raw_weights_are_those_that_were_trained(file: Path, tmp_path: Path) -> None:
    assert run("convert", file, tmp_path / "raw.pth", "--raw") == 0
    assert torch.equal(load_checkpoint(tmp_path / "raw.pth").state_dict["head.bias"], torch.ones(3))


def test_files_for_mmdetection_hold_classes_and_config_where_it_looks(file: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.pth"
    torch.save(
        {
            "meta": {"CLASSES": ["a", "b"], "PALETTE": [[0, 0, 0]], "config": "x = 1"},
            "state_dict": {"w": torch.ones(2)},
        },
        old,
    )
    assert run("to-mmdet", old, tmp_path / "new.pth") == 0
    meta = torch.load(tmp_path / "new.pth", weights_only=True)["meta"]
    assert meta == {"dataset_meta": {"palette": [[0, 0, 0]], "classes": ["a", "b"]}, "cfg": "x = 1"}
    config = tmp_path / "c.py"
    config.write_text("y = 2\n")
    assert run("to-mmdet", old, tmp_path / "new.pth", "--cfg", config) == 0
    assert torch.load(tmp_path / "new.pth", weights_only=True)["meta"]["cfg"] == "y = 2\n"


def test_detectron2_weights_get_the_names_of_a_configs_detector(tmp_path: Path, tiny_config: Path) -> None:
    own = detector_weights(tiny_config)
    renames = {
        "rpn_head.rpn_conv": "proposal_generator.rpn_head.conv",
        "backbone.conv1": "backbone.bottom_up.stem.conv1",
    }
    weights = {n: v for n, v in own.items() if "num_batches_tracked" not in n}
    for new, old in renames.items():
        weights = {n.replace(new, old): v for n, v in weights.items()}
    torch.save({"model": weights}, tmp_path / "old.pth")
    assert run("to-mmdet", tmp_path / "old.pth", tmp_path / "new.pth", "--cfg", tiny_config) == 0
    written = load_checkpoint(tmp_path / "new.pth")
    assert {n: tuple(v.shape) for n, v in written.state_dict.items()} == {n: tuple(v.shape) for n, v in own.items()}
    assert "TwoStage" not in written.config_text
    assert "model = dict(" in written.config_text
    assert run("convert", tmp_path / "old.pth", tmp_path / "b.safetensors", "--cfg", tiny_config) == 0
    assert set(load_checkpoint(tmp_path / "b.safetensors").state_dict) == set(own)


def test_weights_that_lack_some_of_the_detectors_are_no_checkpoint_of_it(
    tmp_path: Path, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = detector_weights(tiny_config)
    del weights["rpn_head.rpn_cls.bias"]
    torch.save(weights, tmp_path / "old.pth")
    assert run("to-mmdet", tmp_path / "old.pth", tmp_path / "new.pth", "--cfg", tiny_config) == 1
    assert "1 weights are not in the file:\n    rpn_head.rpn_cls.bias" in capsys.readouterr().err


def test_info_tells_whose_names_weights_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"backbone.bottom_up.stem.conv1.weight": torch.ones(1)}, tmp_path / "a.pth")
    assert run("info", tmp_path / "a.pth") == 0
    assert "written by      Detectron2" in capsys.readouterr().out


def test_upgrading_writes_the_new_names(tmp_path: Path) -> None:
    config = "model = dict(rpn_head=dict(type='R'), bbox_head=dict(type='B', num_classes=2))"
    torch.save(
        {"meta": {"mmdet_version": "1.0rc1", "config": config}, "state_dict": {"bbox_head.fc_cls.bias": torch.ones(2)}},
        tmp_path / "old.pth",
    )
    assert run("upgrade", tmp_path / "old.pth", tmp_path / "new.pth") == 0
    assert list(load_checkpoint(tmp_path / "new.pth").state_dict) == ["roi_head.bbox_head.fc_cls.bias"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", "{file}", "{out}.zip"), "must end in .pth or .safetensors"),
        (("to-mmdet", "{file}", "{out}.safetensors"), "must end in .pth: MMDetection reads no other"),
        (("upgrade", "{file}", "{out}.pth"), "without a meta.mmdet_version"),
        (("info", "{out}.pth"), "checkpoint not found"),
    ],
)
def test_mistakes_are_one_message(
    arguments: tuple[str, ...], message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*(a.format(file=file, out=tmp_path / "x") for a in arguments)) == 1
    assert message in capsys.readouterr().err
