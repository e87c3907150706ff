"""`python -m fastdet.tools.check_configs`: counts, differences, exit codes."""

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fastdet.tools.check_configs import main

MODEL = """
model = dict(
    type='RetinaNet',
    backbone=dict(type='ResNet', depth=18, num_stages=4, out_indices=(0, 1, 2, 3)),
    neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=16, start_level=1, num_outs=5),
    bbox_head=dict(
        type='RetinaHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
        anchor_generator=dict(type='AnchorGenerator', strides=[8, 16, 32, 64, 128], ratios=[1.0], scales=[4])),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4)),
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
test_dataloader = dict(dataset=dict(
    type='CocoDataset', ann_file='a.json', pipeline=[dict(type='LoadImageFromFile'), dict(type='MyOwn')]))
"""
KEY = "bbox_head.retina_reg.bias"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Configs that are built, refused, no detector, and not readable."""
    files = {
        "a/good.py": MODEL,
        "a/_base_/part.py": "x = 1",
        "a/hooks.py": "x = 1",
        "b/other.py": MODEL.replace("'RetinaNet'", "'YOLOF'"),
        "b/orphan.py": "_base_ = 'missing.py'",
    }
    for name, text in files.items():
        (tmp_path / "configs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "configs" / name).write_text(text)
    return tmp_path / "configs"


def manifest(folder: Path, **changes: object) -> Path:
    """A list with the keys that the good config has, changed."""
    from fastdet.compat import load_experiment
    from fastdet.tools.config_check import _weights

    keys = {**_weights(load_experiment(folder / "a/good.py").model), **changes}
    path = folder.parent / "keys.jsonl.gz"
    with gzip.open(path, "wt") as lines:
        lines.write(json.dumps({"config": "a/good.py", "keys": {k: v for k, v in keys.items() if v is not None}}))
    return path


def test_the_table_counts_what_was_built_and_what_is_unsupported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--families"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "configs of a detector       2",
        "built                       1",
        "unsupported                 1",
        "unreadable                  1",
        "no detector                 1",
        "    1  detector 'YOLOF' is not supported",
        "    1  dataset or transform MyOwn",
        "  a                              1 /   1",
        "  b                              0 /   1",
    ):
        assert line in shown
    assert "keys equal" not in shown


def test_equal_keys_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--keys", str(manifest(folder)), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["detectors"], report["built"], report["keys_equal"]) == (2, 1, 1)
    assert report["unsupported_by_component"] == {"detector 'YOLOF' is not supported": 1}
    record = next(c for c in report["configs"] if c["config"] == "a/good.py")
    assert record["keys"] == "equal"
    assert record["lacking"] == ["dataset or transform MyOwn"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({KEY: [5]}, f"1 of other shape: {KEY} [4] not [5]"),
        ({KEY: None}, f"1 too many: {KEY}"),
        ({"neck.extra": [1]}, "1 missing: neck.extra"),
    ],
)
def test_other_keys_are_wrong_and_named(
    changes: dict[str, object], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--keys", str(manifest(folder, **changes))]) == 1
    assert message in capsys.readouterr().out


def test_errors_that_are_no_refusal_fail_unless_the_release_fails_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b/typo.py").write_text(MODEL.replace("start_level=1", "start_levle=1"))
    assert main([str(folder)]) == 1
    assert "start_levle" in capsys.readouterr().out
    listed = folder.parent / "keys.jsonl"
    listed.write_text(json.dumps({"config": "b/typo.py", "error": "TypeError"}))
    assert main([str(folder), "--keys", str(listed)]) == 0
    assert "refused by both             1" in capsys.readouterr().out


def test_a_wheel_is_unpacked(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "mmdet-0.whl", "w") as wheel:
        wheel.write(folder / "a/good.py", "mmdet/.mim/configs/a/good.py")
        wheel.writestr("mmdet/version.py", "1 / 0")
    assert main([str(tmp_path / "mmdet-0.whl"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [c["config"] for c in report["configs"]] == ["a/good.py"]


@pytest.mark.slow
def test_workers_give_the_same_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    alone = capsys.readouterr().out
    assert main([str(folder), "--workers", "2"]) == 0
    assert capsys.readouterr().out == alone


def test_help_answers_without_importing_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from fastdet.tools.check_configs import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "MANIFEST" in done.stdout


@pytest.mark.parametrize(("name", "message"), [("nope", "neither a folder nor a wheel"), ("", "no configs")])
def test_a_folder_without_configs_is_an_error(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / name)]) == 1
    assert message in capsys.readouterr().err
