"""Checkpoints that hold their config are enough; heads for other classes start anew only when asked."""

from pathlib import Path

import pytest
import torch

import fastdet as package
from fastdet.config.dump import dump_python
from fastdet.config.file import load_config
from fastdet.utils.errors import CheckpointError, ConfigError
from tests.integration.commands import CONFIGS, TINY, fastdet
from tests.integration.conftest import Trained

HEAD = "roi_head.bbox_head.fc_cls"


def rewritten(trained: Trained, path: Path, **meta: object) -> Path:
    """The trained weights with another description."""
    weights = torch.load(trained.checkpoint, weights_only=False)["state_dict"]
    torch.save({"state_dict": weights, "meta": meta}, path)
    return path


def test_a_checkpoint_alone_gives_the_detector_of_its_config(trained: Trained, shapes: Path) -> None:
    alone = package.init_detector(checkpoint=trained.checkpoint, device="cpu")
    named = package.init_detector(TINY, trained.checkpoint, device="cpu")
    assert alone.classes == named.classes == ("rectangle", "circle", "triangle")
    picture = shapes / "val" / "val_00000.png"
    first, second = (package.inference_detector(d, picture).pred_instances for d in (alone, named))
    assert torch.equal(first.bboxes, second.bboxes)
    assert torch.equal(first.scores, second.scores)


def test_a_checkpoint_of_2x_has_its_config_and_classes_where_2x_put_them(trained: Trained, tmp_path: Path) -> None:
    text = dump_python(load_config(CONFIGS / "tiny_v2.py"))
    path = rewritten(trained, tmp_path / "old.pth", config=text, CLASSES=("a", "b", "c"), mmdet_version="2.28.2")
    detector = package.init_detector(checkpoint=path, device="cpu", cfg_options=["model.test_cfg.rcnn.score_thr=0.7"])
    assert detector.classes == ("a", "b", "c")
    assert detector.experiment.model.args["roi"].args["postprocess"].args["score_thr"] == 0.7


def test_a_stored_config_is_read_and_not_run(trained: Trained, tmp_path: Path) -> None:
    text = f"import os\nos.mkdir({str(tmp_path / 'harm')!r})\nmodel = dict(type='RetinaNet')\n"
    path = rewritten(trained, tmp_path / "bad.pth", cfg=text)
    with pytest.raises(ConfigError, match=r"a text from a checkpoint is not(?s:.*)bad.pth:config:1"):
        package.init_detector(checkpoint=path)
    assert not (tmp_path / "harm").exists()


def test_without_a_config_anywhere_the_message_asks_for_one(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not hold its config: give the config file beside it"):
        package.init_detector(checkpoint=rewritten(trained, tmp_path / "bare.pth"))
    with pytest.raises(ConfigError, match="needs a config, or a checkpoint that holds one"):
        package.init_detector()


def test_testing_and_predicting_need_the_checkpoint_alone(trained: Trained, shapes: Path, tmp_path: Path) -> None:
    alone = fastdet("test", trained.checkpoint, "--work-dir", tmp_path / "a", "--json")
    named = fastdet("test", TINY, "--work-dir", tmp_path / "b", trained.checkpoint, "--json")
    assert alone.code == named.code == 0, alone.err + named.err
    assert alone.out == named.out
    picture = shapes / "val" / "val_00000.png"
    ended = fastdet("predict", picture, trained.checkpoint, "--out-dir", tmp_path / "out", "--no-save-vis")
    assert ended.code == 0, ended.err
    assert (tmp_path / "out" / "preds" / "val_00000.json").is_file()


def test_a_config_without_a_checkpoint_is_a_mistake_with_an_answer() -> None:
    ended = fastdet("test", TINY)
    assert ended.code == 1
    assert f"give the checkpoint too: fastdet test {TINY} CKPT" in ended.err


def test_a_head_for_other_classes_starts_anew_only_when_asked(trained: Trained, tmp_path: Path) -> None:
    content = torch.load(trained.checkpoint, weights_only=False)
    weights = content["state_dict"]
    for name in (f"{HEAD}.weight", f"{HEAD}.bias"):
        weights[name] = torch.cat([weights[name], weights[name][:2]])
    torch.save({"state_dict": weights, "meta": {"CLASSES": ("a", "b", "c", "d", "e")}}, tmp_path / "five.pth")
    start = ("train", TINY, "--work-dir", tmp_path / "w", "--load-from", tmp_path / "five.pth", "--dry-run")
    ended = fastdet(*start)
    assert ended.code == 1
    for line in (
        "its head is for another number of classes",
        f"{HEAD}.weight: [6, 32] in the file, [4, 32] in the model",
        "--reinit-head, or reinit_head=True beside load_from",
        "the file's classes: a, b, c, d, e",
    ):
        assert line in ended.err
    for asked in (("--reinit-head",), ("--cfg-options", "reinit_head=True")):
        ended = fastdet(*start, *asked)
        assert ended.code == 0, ended.err
