"""Wrong input of every kind: one message with place, value and fix, the right exit code, never a traceback."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.integration.commands import TINY, Ended, fastdet, overrides, write_config
from tests.integration.conftest import Trained

# config lines from line 2 on, and what the message must say; {file} stands for the config's path
WRONG_CONFIGS = {
    "unknown argument of a part": (
        "model = dict(\n    backbone=dict(dept=18),\n)",
        ["unknown argument 'dept' for ResNet", "{file}:3", "did you mean 'depth'"],
    ),
    "unknown argument of a loader": (
        "train_dataloader = dict(batch_sise=2)",
        ["unknown argument 'batch_sise'", "{file}:2", "did you mean 'batch_size'"],
    ),
    "unknown argument of a transform": (
        "steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scael=(64, 64))]\n"
        "train_dataloader = dict(dataset=dict(pipeline=steps))",
        ["unknown argument 'scael' for Resize", "{file}:2", "did you mean 'scale'"],
    ),
    "unknown argument of the optimizer": (
        "optim_wrapper = dict(optimizer=dict(lrr=0.1))",
        ["unknown argument 'lrr' for AdamW", "{file}:2", "did you mean 'lr'"],
    ),
    "unknown part": (
        "model = dict(backbone=dict(type='ResNett'))",
        ["'ResNett' is not registered as a backbone", "{file}:2", "did you mean 'ResNet'", "custom_imports"],
    ),
    "unknown detector": ("model = dict(type='FasterRCN')", ["'FasterRCN'", "{file}:2", "FasterRCNN"]),
    "unknown transform": (
        "steps = [dict(type='Resise')]\ntrain_dataloader = dict(dataset=dict(pipeline=steps))",
        ["'Resise' is not registered as a transform ", "{file}:2", "did you mean 'Resize'"],
    ),
    "unknown metric": ("val_evaluator = dict(type='CocoMetrik')", ["'CocoMetrik'", "CocoMetric"]),
    "unknown hook": ("custom_hooks = [dict(type='NoHook')]", ["'NoHook' is not registered as a hook", "{file}:2"]),
    "number of classes": (
        "model = dict(roi_head=dict(bbox_head=dict(num_classes=5)))",
        ["num_classes=5 in model.roi_head.bbox_head", "3 classes: rectangle, circle, triangle", "{file}:2",
         "fix: num_classes=3"],
    ),
    "number of classes that is the head's own": (
        "model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))",
        ["num_classes=80 in model.roi_head.bbox_head", "has 3 classes", "fix: num_classes=3"],
    ),
    "class names": (
        "names = dict(classes=('cat', 'dog', 'bird'))\ntrain_dataloader = dict(dataset=dict(metainfo=names))",
        ["'cat', 'dog', 'bird'", "'rectangle' (", "0 of ", "fix: metainfo=dict(classes=('rectangle'"],
    ),
    "classes of training and validation": (
        "names = dict(classes=('circle', 'rectangle', 'triangle'))\n"
        "val_dataloader = dict(dataset=dict(metainfo=names))",
        ["the training and the validation set have other classes", "'circle', 'rectangle'", "'rectangle', 'circle'"],
    ),
    "annotation file": (
        "train_dataloader = dict(dataset=dict(ann_file='annotations/instances_tran.json'))",
        ["instances_tran.json", "cannot be read"],
    ),
    "parts that do not fit": (
        "model = dict(neck=dict(in_channels=[8, 16, 31]))",
        ["do not fit together", "31 channels", "model.neck.lateral_convs.2.conv"],
    ),
    "masks of a detector without": (
        "val_evaluator = dict(metric=['bbox', 'segm'])",
        ["metric='segm' needs masks", "{file}:2"],
    ),
    "learning rate": (
        "optim_wrapper = dict(optimizer=dict(lr='1e-3'))",
        ["lr must be a number, not '1e-3'", "{file}:2"],
    ),
    "depth": ("model = dict(backbone=dict(depth=19))", ["depth must be one of 18, 34, 50", "19"]),
    "syntax": ("model = dict(", ["syntax error", "{file}:2"]),
    "a name that is not there": ("x = 1\ny = x + undefined", ["NameError", "'undefined'", "{file}:3"]),
    "a module that is not there": ("custom_imports = dict(imports=['not_there'])", ["custom_imports", "not_there"]),
    "pretrained weights": (
        "model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')))",
        ["torchvision://resnet18", "resnet18-f37072fd.pth", "put ", "model.backbone.init_cfg=None"],
    ),
    "weights to start from": ("load_from = 'no/such.pth'", ["no/such.pth"]),
}  # fmt: skip


def assert_message(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err + ended.out
    for word in words:
        assert word in ended.err, f"{word!r} is not in:\n{ended.err}"


@pytest.mark.parametrize("case", WRONG_CONFIGS)
def test_wrong_configs(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(importlib.import_module("fastdet.compat.checkpoints.resolve"), "download", _no_network)
    lines, words = WRONG_CONFIGS[case]
    config = write_config(tmp_path, lines + "\n")
    ended = fastdet("train", config, "--work-dir", tmp_path / "work")
    assert_message(ended, 1, *(word.format(file=config) for word in words))
    assert not (tmp_path / "work").exists()


def _no_network(url: str) -> Path:
    raise OSError("no network")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--device", "cuda:7"], 3, ["--device cuda:7", "0 CUDA devices" if not torch.cuda.is_available() else ""]),
        (["--gpu-id", "7"], 3, ["cuda:7"]),
        (["--device", "gpu"], 1, ["--device 'gpu'", "cpu, cuda or cuda:0"]),
        (["--gpus", "2"], 1, ["torchrun --nproc-per-node 2 -m fastdet.train"]),
        (["--launcher", "pytorch"], 3, ["RANK, LOCAL_RANK, WORLD_SIZE", "torchrun"]),
        (["--cfg-options", "model.backbone.dept=50"], 1,
         ["no key 'dept' under 'model.backbone'", "did you mean 'depth'", "+model.backbone.dept=50"]),
        (["--cfg-options", "modle.type=X"], 1, ["no key 'modle'", "did you mean 'model'", "+modle.type=X"]),
        (["--cfg-options", "train_dataloader.batch_size=0"], 1, ["batch_size must be a whole number of at least 1"]),
        (["--cfg-options", "train_dataloader.batch_size=four"], 1,
         ["batch_size must be a whole number, not 'four'", "--cfg-options train_dataloader.batch_size=four"]),
        (["--cfg-options", "foo"], 1, ["write key=value"]),
        (["--resume", "nowhere.pth"], 1, ["nowhere.pth"]),
        (["--load-from", "nowhere.pth"], 1, ["nowhere.pth"]),
        (["--val-loss", "--no-validate"], 1, ["the validation loss needs a validation set"]),
        (["--sede", "3"], 2, ["--sede"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_wrong_options(options: list[str], code: int, words: list[str], tmp_path: Path) -> None:
    ended = fastdet("train", TINY, "--work-dir", tmp_path / "work", *options)
    assert_message(ended, code, *words)
    assert not (tmp_path / "work").exists()


def test_a_new_key_is_added_on_purpose(tmp_path: Path) -> None:
    ended = fastdet("train", TINY, "--dry-run", *overrides("+my.own.key=50", "model.backbone.with_cp=True"))
    assert ended.code == 0, ended.err


def test_a_misspelt_top_level_name_is_a_warning_with_its_place(tmp_path: Path) -> None:
    config = write_config(tmp_path, "train_dataloder = dict(batch_size=2)\n")
    ended = fastdet("train", config, "--dry-run")
    assert ended.code == 0
    assert f"warning: {config}:2: the top-level name 'train_dataloder'" in ended.err
    assert "did you mean 'train_dataloader'" in ended.err


def test_a_missing_config_shows_its_neighbours(tmp_path: Path) -> None:
    write_config(tmp_path, name="faster.py")
    ended = fastdet("train", tmp_path / "fester.py")
    assert_message(ended, 1, "config file not found", "faster.py")


def test_a_work_dir_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_message(fastdet("train", TINY, "--work-dir", tmp_path / "file"), 1, "Not a directory")


def spoilt(shapes: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the set that the configs then read."""
    shutil.copytree(shapes, folder)
    monkeypatch.setenv("SHAPES_ROOT", str(folder))
    return folder


def test_a_missing_image_is_found_before_training(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = spoilt(shapes, tmp_path / "set", monkeypatch) / "train" / "train_00005.png"
    missing.unlink()
    assert_message(fastdet("train", TINY, "--work-dir", tmp_path / "w"), 1, "images that do not exist", str(missing))
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_met_in_training_is_one_clear_error(
    workers: int, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = spoilt(shapes, tmp_path / "set", monkeypatch) / "train" / "train_00003.png"
    image.write_bytes(image.read_bytes()[:1500])
    ended = fastdet(
        "train", TINY, "--work-dir", tmp_path / "w", "--no-check", *overrides(f"train_dataloader.num_workers={workers}")
    )
    assert_message(ended, 1, f"{image}: image is truncated (1500 bytes", "fastdet data check --full")
    assert_message(fastdet("train", TINY, "--work-dir", tmp_path / "w"), 1, "cannot be decoded", str(image))


def test_a_set_that_ends_up_empty_is_an_error(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = spoilt(shapes, tmp_path / "set", monkeypatch) / "annotations" / "instances_train.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    for more in ((), ("--no-check",)):
        ended = fastdet("train", TINY, "--work-dir", tmp_path / "w", *more)
        assert_message(ended, 1, str(file), "filter_empty_gt")


def test_wrong_checkpoints(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "garbage.pth").write_text("garbage")
    torch.save({"state_dict": {"other.weight": torch.zeros(1)}, "meta": {}}, tmp_path / "other.pth")
    torch.save({"state_dict": {}, "meta": _Evil()}, tmp_path / "evil.pth")
    for name, words in {
        "nowhere.pth": ["checkpoint not found", "nowhere.pth"],
        ".": ["is a folder"],
        "garbage.pth": ["no checkpoint, or damaged"],
        "other.pth": ["does not fit the model", "names in the file begin with: other", "backbone"],
        "evil.pth": ["outside the allow-list", "--trust-checkpoint"],
    }.items():
        ended = fastdet("test", TINY, tmp_path / name, "--work-dir", tmp_path / "w")
        assert_message(ended, 1, *words)
    deeper = overrides("model.backbone.depth=34")
    ended = fastdet("test", TINY, trained.checkpoint, "--work-dir", tmp_path / "w", *deeper)
    assert_message(ended, 1, "not in the file", "backbone.layer1.2.conv1.weight")
    ended = fastdet("train", TINY, "--work-dir", tmp_path / "w", "--resume", trained.checkpoint, *deeper)
    assert_message(ended, 1, "was written by another model", "backbone.layer1.2.conv1.weight", "load_from")
    best = next(trained.work_dir.glob("best_*.pth"))
    ended = fastdet("train", TINY, "--work-dir", tmp_path / "w", "--resume", best)
    assert_message(ended, 1, "holds no optimizer state", "epoch_*.pth")


class _Evil:
    """Runs code when an ordinary unpickler reads it."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return sys.exit, (99,)


def test_a_checkpoint_with_other_class_names_is_warned_of(trained: Trained, tmp_path: Path) -> None:
    content = torch.load(trained.checkpoint, weights_only=True)
    content["meta"]["dataset_meta"]["classes"] = ["a", "b", "c"]
    torch.save(content, tmp_path / "named.pth")
    ended = fastdet("test", TINY, tmp_path / "named.pth", "--work-dir", tmp_path / "w")
    assert ended.code == 0
    assert "('a', 'b', 'c')" in ended.err
    assert "('rectangle', 'circle', 'triangle')" in ended.err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--out", "x.txt"], 1, ["--out must end in .pkl", "x.txt"]),
        (["--eval", "segm"], 1, ["metric='segm' needs masks"]),
        (["--eval", "mAP"], 1, ["'mAP' is unknown", "bbox"]),
        (["--eval-options", "clasdwise=True"], 1, ["'clasdwise'", "did you mean 'classwise'"]),
        (["--batch-size", "0"], 2, ["--batch-size"]),
        (["--cfg-options", "test_evaluator=None"], 1, ["no test_evaluator"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_options_of_test(
    options: list[str], code: int, words: list[str], trained: Trained, tmp_path: Path
) -> None:
    ended = fastdet("test", TINY, trained.checkpoint, "--work-dir", tmp_path / "w", *options)
    assert_message(ended, code, *words)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in fastdet("train", tmp_path / "no.py", "--debug").err
